// Positions are cut into blocks of a fixed length, each block gives one partial result, and partial results are merged
// in order. Whether a tile's blocks are computed one after the other or on several threads, the arithmetic is the same.
#include "attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "workspace.h"

namespace apportion {

namespace {

constexpr size_t kTileRows = 48;        // queries that share the reading of a block of keys and values; whole threes
constexpr size_t kAloneWork = 1 << 17;  // multiply-adds that take less time than waking a second thread

// The work as a grid: tiles of queries that read the same key-value head.
struct Grid {
  const Attention& a;
  size_t heads_per_group, tile_heads, tile_tokens;
  size_t head_tiles, token_tiles, num_tiles;
  size_t tile_rows, width, partial_floats;

  explicit Grid(const Attention& attention) : a(attention) {
    heads_per_group = a.num_heads / a.k.num_heads;
    tile_heads = std::min(heads_per_group, kTileRows);
    tile_tokens = std::max<size_t>(1, kTileRows / tile_heads);
    head_tiles = (heads_per_group + tile_heads - 1) / tile_heads;
    token_tiles = (a.num_tokens + tile_tokens - 1) / tile_tokens;
    num_tiles = a.k.num_heads * head_tiles * token_tiles;
    width = round_up(a.v.width, 8);
    tile_rows = tile_heads * std::min(tile_tokens, a.num_tokens);
    partial_floats = round_up(tile_rows * (2 + width), 16);
  }

  Partial partial(float* memory) const {
    return {memory + tile_rows * width, memory + tile_rows * (width + 1), memory};
  }

  size_t first_token(size_t index) const { return index / (a.k.num_heads * head_tiles) * tile_tokens; }
  size_t first_head(size_t index) const {
    const size_t group = index % (a.k.num_heads * head_tiles) / head_tiles;
    return group * heads_per_group + index % head_tiles * tile_heads;
  }

  AttendTile tile(size_t index) const {
    const size_t head = first_head(index), token = first_token(index), group = head / heads_per_group;
    const size_t num_heads = std::min(tile_heads, (group + 1) * heads_per_group - head);
    const size_t num_tokens = std::min(tile_tokens, a.num_tokens - token);
    const size_t size = a.k.halves ? 2 : 4;
    AttendTile t{};
    t.q = a.q + (token * a.num_heads + head) * a.k.width;
    t.q_token_stride = a.num_heads * a.k.width;
    t.q_head_stride = a.k.width;
    t.num_rows = num_tokens * num_heads;
    t.num_heads = num_heads;
    t.first_position = a.start + token;
    t.k = static_cast<const char*>(a.k.data) + group * a.k.head_stride * size;
    t.v = static_cast<const char*>(a.v.data) + group * a.v.head_stride * size;
    t.k_stride = a.k.position_stride;
    t.v_stride = a.v.position_stride;
    t.halves = a.k.halves;
    t.key_size = a.k.width;
    t.value_size = a.v.width;
    t.window = a.window;
    t.scale = a.scale;
    t.softcap = a.softcap;
    return t;
  }

  // Blocks that the tile's queries see.
  size_t first_block(const AttendTile& t) const {
    return a.window && t.first_position >= a.window ? (t.first_position - a.window + 1) / kAttendBlock : 0;
  }
  size_t end_block(const AttendTile& t) const {
    return (t.first_position + t.num_rows / t.num_heads - 1) / kAttendBlock + 1;
  }

  // Blocks to have room for. One token will be followed by others until the cache is full: with room for the last of
  // them, a growing context allocates nothing.
  size_t most_blocks() const {
    const size_t end = a.num_tokens == 1 ? std::min(a.k.capacity, a.v.capacity) : a.start + a.num_tokens;
    const size_t seen = a.window ? std::min(end, a.window + a.num_tokens) : end;
    return seen / kAttendBlock + 2;  // the first and the last may be cut
  }

  // Floats that a thread needs: scratch, a total and a part of it.
  size_t room() const { return round_up(kAttendScratch + 2 * partial_floats, 16); }

  // Multiply-adds, at most.
  size_t work() const {
    const size_t end = a.start + a.num_tokens, seen = a.window ? std::min(a.window + a.num_tokens, end) : end;
    return a.num_tokens * a.num_heads * seen * (a.k.width + a.v.width);
  }
};

void clear(const Partial& total, size_t num_rows, size_t width) {
  std::fill_n(total.top, num_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(total.sum, num_rows, 0.0f);
  std::fill_n(total.values, num_rows * width, 0.0f);
}

void finish(const Grid& grid, size_t index, const Partial& total, float* out) {
  const Attention& a = grid.a;
  const AttendTile t = grid.tile(index);
  for (size_t r = 0; r < t.num_rows; ++r) {
    const size_t token = grid.first_token(index) + r / t.num_heads, head = grid.first_head(index) + r % t.num_heads;
    float factor = 1.0f, sum = total.sum[r];
    if (a.sinks) {
      const float top = std::max(total.top[r], a.sinks[head]);
      factor = std::exp(total.top[r] - top);
      sum = sum * factor + std::exp(a.sinks[head] - top);
    }
    factor /= sum;
    float* to = out + (token * a.num_heads + head) * a.v.width;
    for (size_t d = 0; d < a.v.width; ++d) to[d] = total.values[r * grid.width + d] * factor;
  }
}

// Few queries over many positions: blocks are shared out too.
void attend_by_blocks(const Context& context, const Grid& grid, std::span<float> scratch, std::span<float> partials,
                      float* out) {
  const size_t first = grid.first_block(grid.tile(0)), end = grid.end_block(grid.tile(grid.num_tiles - 1));
  const size_t num_blocks = end - first;
  const auto partial = [&](size_t index) { return grid.partial(partials.data() + index * grid.partial_floats); };
  const auto attend = [&](size_t begin, size_t last, unsigned worker) {
    for (size_t i = begin; i < last; ++i)
      context.kernels->attend_block(grid.tile(i / num_blocks), first + i % num_blocks,
                                    scratch.data() + worker * grid.room(), partial(i));
  };
  Pool::shared().run(grid.num_tiles * num_blocks, 1, context.threads, attend);
  const Partial total = grid.partial(scratch.data() + kAttendScratch);
  for (size_t i = 0; i < grid.num_tiles; ++i) {
    const size_t num_rows = grid.tile(i).num_rows;
    clear(total, num_rows, grid.width);
    for (size_t block = 0; block < num_blocks; ++block)
      context.kernels->merge(total, partial(i * num_blocks + block), num_rows, grid.width);
    finish(grid, i, total, out);
  }
}

void attend_by_tiles(const Context& context, const Grid& grid, unsigned threads, std::span<float> scratch, float* out) {
  Pool::shared().run(grid.num_tiles, 1, threads, Claims::single, [&](size_t begin, size_t last, unsigned worker) {
    float* own = scratch.data() + worker * grid.room();
    const Partial total = grid.partial(own + kAttendScratch);
    const Partial part = grid.partial(own + kAttendScratch + grid.partial_floats);
    for (size_t i = begin; i < last; ++i) {
      const size_t index = grid.num_tiles - 1 - i;  // late tokens first: they see the most
      const AttendTile tile = grid.tile(index);
      clear(total, tile.num_rows, grid.width);
      for (size_t block = grid.first_block(tile); block < grid.end_block(tile); ++block) {
        context.kernels->attend_block(tile, block, own, part);
        context.kernels->merge(total, part, tile.num_rows, grid.width);
      }
      finish(grid, index, total, out);
    }
  });
}

}  // namespace

void attend(const Context& context, const Attention& attention, float* out) {
  if (attention.num_tokens == 0 || attention.num_heads == 0) return;
  Workspace work;
  const Grid grid(attention);
  // Taken whether this call needs them or not: a deeper one may.
  const bool few_tiles = context.threads > 1 && grid.num_tiles < 4 * size_t(context.threads);
  const std::span<float> scratch = work.take<float>(context.threads * grid.room());
  const std::span<float> partials =
      work.take<float>(few_tiles ? grid.num_tiles * grid.most_blocks() * grid.partial_floats : 0);
  const bool alone = grid.work() < kAloneWork;
  if (few_tiles && !alone)
    attend_by_blocks(context, grid, scratch, partials, out);
  else
    attend_by_tiles(context, grid, alone ? 1 : context.threads, scratch, out);
}

}  // namespace apportion
