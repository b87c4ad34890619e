#include "kv_pages.h"

#include <algorithm>

namespace apportion {

bool LayerPages::fits(size_t block_nbytes) const {
  return head_nbytes % 64 == 0 && offset % 64 == 0 && used_nbytes() <= head_nbytes && offset <= block_nbytes &&
         shape.num_heads <= (block_nbytes - offset) / head_nbytes;
}

namespace {

// A row in another codec, by way of `numbers`; in the same codec it is the same.
void encode_row(const Kernels& kernels, const KvRow& from, const KvRow& to, size_t width, float* numbers) {
  if (from.codec != to.codec) {
    kernels.decode_row(from, width, numbers);
    return kernels.encode_row(numbers, width, to);
  }
  std::copy_n(from.codes, kv_row_nbytes(from.codec, width), to.codes);
  if (from.scale) *to.scale = *from.scale;
  if (from.offset) *to.offset = *from.offset;
}

}  // namespace

void encode_rows(const Kernels& kernels, const KvBlock& from, const KvBlock& to, size_t first, size_t count) {
  std::vector<float> numbers;
  for (size_t layer = 0; layer < from.pool->layers.size(); ++layer) {
    const auto [num_heads, D, Dv, joint] = from.pool->layers[layer].shape;
    numbers.resize(std::max({numbers.size(), D, Dv}));
    for (size_t head = 0; head < num_heads; ++head) {
      const KvPage page = from.page(layer, head), other = to.page(layer, head);
      for (size_t row = first; row < first + count; ++row) {
        encode_row(kernels, page.key_row(row, D), other.key_row(row, D), D, numbers.data());
        if (!joint) encode_row(kernels, page.value_row(row, Dv), other.value_row(row, Dv), Dv, numbers.data());
      }
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
