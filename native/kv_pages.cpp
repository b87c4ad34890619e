#include "kv_pages.h"

#include <algorithm>

namespace apportion {

bool LayerPages::fits(size_t block_nbytes) const {
  return head_nbytes % 64 == 0 && offset % 64 == 0 && used_nbytes() <= head_nbytes && offset <= block_nbytes &&
         shape.num_heads <= (block_nbytes - offset) / head_nbytes;
}

namespace {

void encode_rows(const Kernels& kernels, const KvPage& from, const KvPage& to, const KvShape& shape, float* numbers) {
  for (size_t row = 0; row < kPageTokens; ++row) {
    kernels.decode_row(from.key_row(row, shape.key_width), shape.key_width, numbers);
    kernels.encode_row(numbers, shape.key_width, to.key_row(row, shape.key_width));
    if (shape.joint) continue;
    kernels.decode_row(from.value_row(row, shape.value_width), shape.value_width, numbers);
    kernels.encode_row(numbers, shape.value_width, to.value_row(row, shape.value_width));
  }
}

}  // namespace

void encode_block(const Kernels& kernels, const KvBlock& from, const KvBlock& to) {
  std::vector<float> numbers;
  for (size_t layer = 0; layer < from.pool->layers.size(); ++layer) {
    const LayerPages &pages = from.pool->layers[layer], &others = to.pool->layers[layer];
    numbers.resize(std::max({numbers.size(), pages.shape.key_width, pages.shape.value_width}));
    for (size_t head = 0; head < pages.shape.num_heads; ++head) {
      const KvPage page = from.page(layer, head), other = to.page(layer, head);
      if (pages.codec == others.codec)
        std::copy_n(page.keys, pages.used_nbytes(), other.keys);
      else
        encode_rows(kernels, page, other, pages.shape, numbers.data());
    }
  }
}

void KvTable::keep(size_t layer, Kept kept) {
  if (kept_.size() <= layer) kept_.resize(layer + 1);
  kept_[layer] = std::move(kept);
}

void KvTable::forget(size_t layer) {
  if (layer < kept_.size()) kept_[layer] = {};
}

size_t KvTable::num_replaced() const {
  size_t most = 0;
  for (const Kept& kept : kept_) most = std::max(most, kept.first);
  return most;
}

}  // namespace apportion
