#include "kv_pages.h"

#include <algorithm>

namespace apportion {

bool LayerPages::fits(size_t block_nbytes) const {
  return head_nbytes % 64 == 0 && offset % 64 == 0 && keys_nbytes() + values_nbytes() <= head_nbytes &&
         offset <= block_nbytes && shape.num_heads <= (block_nbytes - offset) / head_nbytes;
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
