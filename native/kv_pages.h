// Keys and values of sequences, in blocks of 32 positions.
//
// A block holds its positions for all layers; in it lie head pages, at fixed offsets:
//
//   block     | layer 0: head 0 | head 1 | .. | layer 1: head 0 | ..     units of memory and of I/O
//   head page | 32 rows of keys | 32 rows of values, unless they are the first numbers of the keys
//
// A sequence is a table of blocks, which may lie in several pools and in several codecs. A *place* counts rows through
// the table: 32 * block + row. In one layer, heads may have pages of their own in place of the table's first blocks;
// what follows is the table's, so each head counts its places for itself.
#pragma once

#include <span>
#include <vector>

#include "kernels.h"

namespace apportion {

// Keys and values of one layer. Joint: values are the first numbers of the keys.
struct KvShape {
  size_t num_heads = 0, key_width = 0, value_width = 0;
  bool joint = false;

  bool operator==(const KvShape&) const = default;
};

// One layer's share of a block.
struct LayerPages {
  KvShape shape;
  KvCodec codec;
  size_t offset, head_nbytes;  // of the first head's page in the block; of each page

  size_t keys_nbytes() const { return kPageTokens * kv_row_nbytes(codec, shape.key_width); }
  size_t values_nbytes() const { return shape.joint ? 0 : kPageTokens * kv_row_nbytes(codec, shape.value_width); }
  size_t scales_nbytes() const { return kPageTokens * kv_num_scales(codec) * sizeof(uint16_t); }  // of keys, of values
  size_t used_nbytes() const { return keys_nbytes() + values_nbytes() + (shape.joint ? 1 : 2) * scales_nbytes(); }
  bool fits(size_t block_nbytes) const;
};

// What one layer's queries and keys are multiplied by once they are rotated, [G, D]: one the inverse of the other.
struct Smoothing {
  std::vector<float> queries, keys;
};

// Blocks, one after the other in memory that is somebody else's.
struct KvPool {
  uint8_t* memory;
  size_t num_blocks, block_nbytes;
  std::vector<LayerPages> layers;
  std::vector<Smoothing> smoothing;  // by layer, or none
};

struct KvBlock {
  const KvPool* pool;
  uint32_t index, live;

  KvPage page(size_t layer, size_t head) const {
    const LayerPages& pages = pool->layers[layer];
    uint8_t* const keys = pool->memory + index * pool->block_nbytes + pages.offset + head * pages.head_nbytes;
    uint8_t* const scales = keys + pages.keys_nbytes() + pages.values_nbytes();
    const auto halves = [](uint8_t* at) { return reinterpret_cast<uint16_t*>(at); };
    if (pages.shape.joint) return {keys, keys, halves(scales), halves(scales), live, pages.codec};
    return {keys,       keys + pages.keys_nbytes(), halves(scales), halves(scales + pages.scales_nbytes()), live,
            pages.codec};
  }
};

// Rows of one block into the same places of another, of the same shapes, in its codecs.
void encode_rows(const Kernels& kernels, const KvBlock& from, const KvBlock& to, size_t first, size_t count);

class KvTable {
 public:
  // Per head, what stands in place of the blocks before `first`.
  struct Kept {
    size_t first = 0;
    std::vector<std::vector<KvBlock>> heads;
  };

  std::vector<KvBlock> blocks;

  void keep(size_t layer, Kept kept);
  void forget(size_t layer);

  // Null where a layer has all of the table's blocks.
  const Kept* kept(size_t layer) const {
    return layer < kept_.size() && !kept_[layer].heads.empty() ? &kept_[layer] : nullptr;
  }

  // Blocks that some layer has pages of its own in place of.
  size_t num_replaced() const;
  size_t num_places() const { return kPageTokens * blocks.size(); }

  // How many places come before the table's place 0, as this head counts; the pages that the head has.
  ptrdiff_t shift(size_t layer, size_t head) const {
    const Kept* own = kept(layer);
    return own ? ptrdiff_t(kPageTokens) * (ptrdiff_t(own->heads[head].size()) - ptrdiff_t(own->first)) : 0;
  }
  size_t num_pages(size_t layer, size_t head) const {
    return size_t(ptrdiff_t(blocks.size()) + shift(layer, head) / ptrdiff_t(kPageTokens));
  }

  KvPage page(size_t layer, size_t head, size_t index) const {
    const Kept* own = kept(layer);
    if (!own) return blocks[index].page(layer, head);
    const std::vector<KvBlock>& mine = own->heads[head];
    return (index < mine.size() ? mine[index] : blocks[index - mine.size() + own->first]).page(layer, head);
  }

 private:
  std::vector<Kept> kept_;  // by layer
};

// Tokens that enter a table at the places start .. and have the positions position ..
struct KvSegment {
  const KvTable* table;
  size_t start, num_tokens, position;
};

}  // namespace apportion
