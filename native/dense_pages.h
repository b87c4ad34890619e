// Dense keys and values as pages, for attention outside of programs.
#pragma once

#include <cstring>
#include <vector>

#include "kv_pages.h"
#include "views.h"

namespace apportion {

// A copy of the first positions of keys [G, C, D] and values [G, C, Dv] of one type.
class DensePages {
 public:
  DensePages(const View& k, const View& v, size_t num_positions) {
    const KvShape shape{k.dim(0), k.dim(2), v.dim(2), false};
    LayerPages layer{shape, k.type() == 'e' ? KvCodec::f16 : KvCodec::f32, 0, 0};
    layer.head_nbytes = layer.keys_nbytes() + layer.values_nbytes();
    const size_t num_blocks = (num_positions + kPageTokens - 1) / kPageTokens;
    const size_t block_nbytes = shape.num_heads * layer.head_nbytes;
    memory_.resize(num_blocks * block_nbytes);
    pool_ = {memory_.data(), num_blocks, block_nbytes, {layer}};
    for (size_t i = 0; i < num_blocks; ++i) table_.blocks.push_back({&pool_, uint32_t(i), kAllLive});
    for (size_t head = 0; head < shape.num_heads; ++head)
      for (size_t position = 0; position < num_positions; ++position) {
        const KvPage page = table_.page(0, head, position / kPageTokens);
        copy_row(k, head, position, page.keys);
        copy_row(v, head, position, page.values);
      }
  }
  DensePages(const DensePages&) = delete;
  DensePages& operator=(const DensePages&) = delete;

  const KvTable& table() const { return table_; }
  const KvShape& shape() const { return pool_.layers[0].shape; }

 private:
  static void copy_row(const View& from, size_t head, size_t position, uint8_t* rows) {
    const size_t size = from.type() == 'e' ? 2 : 4, nbytes = from.dim(2) * size;
    const size_t at = (head * from.stride(0) + position * from.stride(1)) * size;
    std::memcpy(rows + position % kPageTokens * nbytes, from.data<const uint8_t>() + at, nbytes);
  }

  std::vector<uint8_t> memory_;
  KvPool pool_;
  KvTable table_;
};

}  // namespace apportion
