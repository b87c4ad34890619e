// Positions are cut into runs of a fixed length, each run gives one partial result, and partial results are merged in
// order. Whether a tile's runs are computed one after the other or on several threads, the arithmetic is the same.
#include "attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "workspace.h"

namespace apportion {

namespace {

constexpr size_t kRun = 512;      // positions
constexpr size_t kTileRows = 32;  // queries that share the reading of a block of keys and values
static_assert(kRun % kAttendBlock == 0 && kTileRows <= kMaxTileRows);

// The work as a grid: tiles of queries that read the same key-value head.
struct Grid {
  const Attention& a;
  size_t heads_per_group, tile_heads, tile_tokens;
  size_t head_tiles, token_tiles, num_tiles;
  size_t width, partial_floats;

  explicit Grid(const Attention& attention) : a(attention) {
    heads_per_group = a.num_heads / a.k.num_heads;
    tile_heads = std::min(heads_per_group, kTileRows);
    tile_tokens = std::max<size_t>(1, kTileRows / tile_heads);
    head_tiles = (heads_per_group + tile_heads - 1) / tile_heads;
    token_tiles = (a.num_tokens + tile_tokens - 1) / tile_tokens;
    num_tiles = a.k.num_heads * head_tiles * token_tiles;
    width = round_up(a.v.width, 8);
    partial_floats = kTileRows * (2 + width);
  }

  Partial partial(float* memory) const { return {memory, memory + kTileRows, memory + 2 * kTileRows}; }

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

  // Runs that the tile's queries see.
  size_t first_run(const AttendTile& t) const {
    return a.window && t.first_position >= a.window ? (t.first_position - a.window + 1) / kRun : 0;
  }
  size_t end_run(const AttendTile& t) const { return (t.first_position + t.num_rows / t.num_heads - 1) / kRun + 1; }
};

// total = total and part together, both relative to the larger maximum.
void merge(const Partial& total, const Partial& part, size_t num_rows, size_t width) {
  for (size_t r = 0; r < num_rows; ++r) {
    const float top = std::max(total.top[r], part.top[r]);
    if (part.sum[r] == 0.0f) continue;  // nothing seen in this run
    const float old_factor = std::exp(total.top[r] - top), factor = std::exp(part.top[r] - top);
    total.top[r] = top;
    total.sum[r] = total.sum[r] * old_factor + part.sum[r] * factor;
    float *to = total.values + r * width, *from = part.values + r * width;
    for (size_t d = 0; d < width; ++d) to[d] = to[d] * old_factor + from[d] * factor;
  }
}

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

// Few queries over many positions: runs are shared out too.
void attend_by_runs(const Context& context, const Grid& grid, Workspace& work, float* out) {
  const size_t scratch_floats = attend_scratch(grid.a.k.width, grid.a.v.width);
  const size_t first = grid.first_run(grid.tile(0)), end = grid.end_run(grid.tile(grid.num_tiles - 1));
  const size_t num_runs = end - first;
  const std::span<float> scratch = work.take<float>(context.threads * scratch_floats);
  const std::span<float> partials = work.take<float>(grid.num_tiles * num_runs * grid.partial_floats);
  const auto partial = [&](size_t index) { return grid.partial(partials.data() + index * grid.partial_floats); };
  Pool::shared().run(grid.num_tiles * num_runs, 1, context.threads, [&](size_t begin, size_t last, unsigned worker) {
    for (size_t i = begin; i < last; ++i) {
      const size_t run = first + i % num_runs;
      context.kernels->attend_run(grid.tile(i / num_runs), run * kRun, (run + 1) * kRun,
                                  scratch.data() + worker * scratch_floats, partial(i));
    }
  });
  const std::span<float> memory = work.take<float>(grid.partial_floats);
  const Partial total = grid.partial(memory.data());
  for (size_t i = 0; i < grid.num_tiles; ++i) {
    const size_t num_rows = grid.tile(i).num_rows;
    clear(total, num_rows, grid.width);
    for (size_t run = 0; run < num_runs; ++run) merge(total, partial(i * num_runs + run), num_rows, grid.width);
    finish(grid, i, total, out);
  }
}

void attend_by_tiles(const Context& context, const Grid& grid, Workspace& work, float* out) {
  const size_t scratch_floats = attend_scratch(grid.a.k.width, grid.a.v.width);
  const size_t room = scratch_floats + 2 * grid.partial_floats;
  const std::span<float> scratch = work.take<float>(context.threads * room);
  Pool::shared().run(grid.num_tiles, 1, context.threads, [&](size_t begin, size_t last, unsigned worker) {
    float* own = scratch.data() + worker * room;
    const Partial total = grid.partial(own + scratch_floats);
    const Partial part = grid.partial(own + scratch_floats + grid.partial_floats);
    for (size_t i = begin; i < last; ++i) {
      const size_t index = grid.num_tiles - 1 - i;  // late tokens first: they see the most
      const AttendTile tile = grid.tile(index);
      clear(total, tile.num_rows, grid.width);
      for (size_t run = grid.first_run(tile); run < grid.end_run(tile); ++run) {
        context.kernels->attend_run(tile, run * kRun, (run + 1) * kRun, own, part);
        merge(total, part, tile.num_rows, grid.width);
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
  if (context.threads > 1 && grid.num_tiles < 4 * size_t(context.threads))
    attend_by_runs(context, grid, work, out);
  else
    attend_by_tiles(context, grid, work, out);
}

}  // namespace apportion
