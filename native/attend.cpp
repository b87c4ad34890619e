// Places are cut into blocks of a fixed length, each block gives one partial result, and partial results are merged in
// order. Whether a tile's blocks are computed one after the other or on several threads, and whatever other sequences
// are computed beside it, the arithmetic is the same.
#include "attend.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "workspace.h"

namespace apportion {

namespace {

constexpr size_t kTileRows = 48;        // queries that share the reading of a block of keys and values; whole threes
constexpr size_t kAloneWork = 1 << 17;  // multiply-adds that take less time than waking a second thread

// The pages that a tile reads, `first` .. `end - 1` of a head.
struct TilePages {
  const KvTable* table;
  size_t layer, head, first, end;

  // Past the last page it is repeated: nothing there is seen.
  KvPage at(size_t page) const { return table->page(layer, head, std::min(page, end - 1)); }
};

// A block's pages from page `first` on. Where the tile ends, those of `next` follow, unless it is null: they are read
// next.
void find_pages(const TilePages& tile, const TilePages* next, size_t first, KvPage* pages) {
  for (size_t page = first; page < first + kAttendPages; ++page)
    *pages++ = next && page >= tile.end ? next->at(next->first + page - tile.end) : tile.at(page);
}

// One sequence's work as a grid: tiles of queries that read the same key-value head.
struct Grid {
  const Attention* attention;
  bool exact;
  KvSegment segment;
  size_t first_token;  // of the segment, among all
  size_t heads_per_group, tile_heads, tile_tokens;
  size_t head_tiles, num_tiles;
  size_t first_tile, first_item, num_blocks;  // its tiles and its items among all; blocks per tile, at most

  Grid(const Attention& a, bool is_exact, const KvSegment& of, size_t token)
      : attention(&a), exact(is_exact), segment(of), first_token(token) {
    heads_per_group = a.num_heads / a.shape.num_heads;
    tile_heads = std::min(heads_per_group, kTileRows);
    tile_tokens = std::max<size_t>(1, kTileRows / tile_heads);
    head_tiles = (heads_per_group + tile_heads - 1) / tile_heads;
    num_tiles = a.shape.num_heads * head_tiles * ((segment.num_tokens + tile_tokens - 1) / tile_tokens);
    first_tile = first_item = num_blocks = 0;
  }

  size_t tile_rows() const { return tile_heads * std::min(tile_tokens, segment.num_tokens); }
  size_t tile_token(size_t index) const { return index / (attention->shape.num_heads * head_tiles) * tile_tokens; }
  size_t group(size_t index) const { return index / head_tiles % attention->shape.num_heads; }
  size_t first_head(size_t index) const { return group(index) * heads_per_group + index % head_tiles * tile_heads; }

  // The segment's first place, as a head counts.
  size_t start(size_t group) const {
    return size_t(ptrdiff_t(segment.start) + segment.table->shift(attention->layer, group));
  }

  AttendTile tile(size_t index) const {
    const Attention& a = *attention;
    const size_t head = first_head(index), token = tile_token(index), own = group(index), width = a.shape.key_width;
    const size_t num_heads = std::min(tile_heads, (own + 1) * heads_per_group - head);
    const size_t num_tokens = std::min(tile_tokens, segment.num_tokens - token);
    AttendTile t{};
    t.q = a.q + ((first_token + token) * a.num_heads + head) * width;
    t.q_token_stride = a.num_heads * width;
    t.q_head_stride = width;
    t.num_rows = num_tokens * num_heads;
    t.num_heads = num_heads;
    t.first_place = start(own) + token;
    t.key_width = width;
    t.value_width = a.shape.value_width;
    t.joint = a.shape.joint;
    t.window = a.window;
    t.scale = a.scale;
    t.softcap = a.softcap;
    t.exact = exact;
    return t;
  }

  // Blocks that the tile's queries see.
  static size_t first_block(const AttendTile& t) {
    return t.window && t.first_place >= t.window ? (t.first_place - t.window + 1) / kAttendBlock : 0;
  }
  static size_t last_seen(const AttendTile& t) { return t.first_place + t.num_rows / t.num_heads - 1; }
  static size_t end_block(const AttendTile& t) { return last_seen(t) / kAttendBlock + 1; }

  TilePages pages(size_t index) const {
    const AttendTile t = tile(index);
    const size_t layer = attention->layer, head = group(index), num_pages = segment.table->num_pages(layer, head);
    return {segment.table, layer, head, first_block(t) * kAttendPages,
            std::min(last_seen(t) / kPageTokens + 1, num_pages)};
  }

  // Of places up to `end`: what any of its queries sees, and the blocks that a tile sees, at most.
  size_t places_seen(size_t end) const {
    return attention->window ? std::min(end, attention->window + segment.num_tokens) : end;
  }
  size_t blocks_seen(size_t end) const {
    const size_t all = (end - 1) / kAttendBlock + 1, window = attention->window;
    return window ? std::min(all, (window + tile_tokens) / kAttendBlock + 2) : all;  // the first and the last are cut
  }
  size_t last_place() const {
    size_t last = 0;
    for (size_t head = 0; head < attention->shape.num_heads; ++head) last = std::max(last, start(head));
    return last + segment.num_tokens;
  }

  size_t work() const {
    const KvShape& shape = attention->shape;
    return segment.num_tokens * attention->num_heads * (shape.key_width + shape.value_width) *
           places_seen(last_place());
  }
};

// All sequences' tiles. A tile and one of its blocks are an item.
struct Work {
  const Attention& attention;
  std::span<Grid> grids;
  size_t num_tiles = 0, num_items = 0, work = 0;
  size_t width, partial_floats, scratch_floats;

  Work(const Context& context, const Attention& a, std::span<Grid> room) : attention(a), grids(room) {
    size_t token = 0, rows = 0;
    for (size_t i = 0; i < grids.size(); token += a.segments[i++].num_tokens) {
      Grid& grid = *new (&grids[i]) Grid(a, context.exact, a.segments[i], token);
      grid.first_tile = num_tiles;
      grid.first_item = num_items;
      grid.num_blocks = grid.blocks_seen(grid.last_place());
      num_tiles += grid.num_tiles;
      num_items += grid.num_tiles * grid.num_blocks;
      work += grid.work();
      rows = std::max(rows, grid.tile_rows());
    }
    width = round_up(a.shape.value_width, 8);
    partial_floats = round_up(rows * (2 + width), 16);
    tile_rows = rows;
    scratch_floats = round_up(context.kernels->attend_scratch(rows, a.shape.key_width, a.shape.value_width), 16);
  }

  // Items to have room for. A context of one token after the other grows: with room for the next power of two, or for
  // what its table holds, it seldom allocates.
  size_t most_items() const {
    size_t most = 0;
    for (const Grid& grid : grids)
      most +=
          grid.num_tiles * std::bit_ceil(std::max(grid.num_blocks, grid.blocks_seen(grid.segment.table->num_places())));
    return most;
  }
  size_t tile_rows;

  const Grid& grid_of_tile(size_t tile) const {
    return *(std::ranges::upper_bound(grids, tile, {}, &Grid::first_tile) - 1);
  }
  const Grid& grid_of_item(size_t item) const {
    return *(std::ranges::upper_bound(grids, item, {}, &Grid::first_item) - 1);
  }

  Partial partial(float* memory) const {
    return {memory + tile_rows * width, memory + tile_rows * (width + 1), memory};
  }

  // Floats that a thread needs: scratch, a total and a part of it.
  size_t room() const { return scratch_floats + 2 * partial_floats; }
};

void clear(const Partial& total, size_t num_rows, size_t width) {
  std::fill_n(total.top, num_rows, -std::numeric_limits<float>::infinity());
  std::fill_n(total.sum, num_rows, 0.0f);
  std::fill_n(total.values, num_rows * width, 0.0f);
}

void finish(const Work& work, const Grid& grid, size_t index, const Partial& total, float* out) {
  const Attention& a = work.attention;
  const AttendTile t = grid.tile(index);
  for (size_t r = 0; r < t.num_rows; ++r) {
    const size_t token = grid.first_token + grid.tile_token(index) + r / t.num_heads;
    const size_t head = grid.first_head(index) + r % t.num_heads;
    float factor = 1.0f, sum = total.sum[r];
    if (a.sinks) {
      const float top = std::max(total.top[r], a.sinks[head]);
      factor = std::exp(total.top[r] - top);
      sum = sum * factor + std::exp(a.sinks[head] - top);
    }
    factor /= sum;
    float* to = out + (token * a.num_heads + head) * t.value_width;
    for (size_t d = 0; d < t.value_width; ++d) to[d] = total.values[r * work.width + d] * factor;
  }
}

void attend_item(const Context& context, const Grid& grid, size_t item, float* scratch, const Partial& out) {
  const size_t index = item / grid.num_blocks;
  const AttendTile tile = grid.tile(index);
  const size_t block = Grid::first_block(tile) + item % grid.num_blocks, end = Grid::end_block(tile);
  if (block >= end) return;
  const TilePages pages = grid.pages(index);
  KvPage own[kAttendPages], ahead[kAttendPages];
  find_pages(pages, nullptr, block * kAttendPages, own);
  find_pages(pages, nullptr, (block + 1) * kAttendPages, ahead);
  context.kernels->attend_block(tile, block, own, ahead, scratch, out);
}

// Few queries over many places: blocks are shared out too.
void attend_by_blocks(const Context& context, const Work& work, std::span<float> scratch, std::span<float> partials,
                      float* out) {
  const auto partial = [&](size_t item) { return work.partial(partials.data() + item * work.partial_floats); };
  Pool::shared().run(work.num_items, 1, context.threads, [&](size_t begin, size_t last, unsigned worker) {
    for (size_t i = begin; i < last; ++i) {
      const Grid& grid = work.grid_of_item(i);
      attend_item(context, grid, i - grid.first_item, scratch.data() + worker * work.room(), partial(i));
    }
  });
  const Partial total = work.partial(scratch.data() + work.scratch_floats);
  for (const Grid& grid : work.grids)
    for (size_t index = 0; index < grid.num_tiles; ++index) {
      const AttendTile tile = grid.tile(index);
      const size_t first = grid.first_item + index * grid.num_blocks;
      const size_t num_blocks = Grid::end_block(tile) - Grid::first_block(tile);
      clear(total, tile.num_rows, work.width);
      for (size_t block = 0; block < num_blocks; ++block)
        context.kernels->merge(total, partial(first + block), tile.num_rows, work.width);
      finish(work, grid, index, total, out);
    }
}

// `next` is the tile that this thread may read after this one.
void attend_tile(const Context& context, const Work& work, size_t number, std::optional<size_t> next, float* memory,
                 float* out) {
  const Grid& grid = work.grid_of_tile(number);
  const size_t index = number - grid.first_tile;
  const Partial total = work.partial(memory + work.scratch_floats);
  const Partial part = work.partial(memory + work.scratch_floats + work.partial_floats);
  const AttendTile tile = grid.tile(index);
  const TilePages pages = grid.pages(index);
  std::optional<TilePages> next_pages;
  if (next) next_pages = work.grid_of_tile(*next).pages(*next - work.grid_of_tile(*next).first_tile);
  KvPage own[kAttendPages], ahead[kAttendPages];
  find_pages(pages, nullptr, pages.first, ahead);
  clear(total, tile.num_rows, work.width);
  for (size_t block = Grid::first_block(tile); block < Grid::end_block(tile); ++block) {
    std::copy_n(ahead, kAttendPages, own);
    find_pages(pages, next_pages ? &*next_pages : nullptr, (block + 1) * kAttendPages, ahead);
    context.kernels->attend_block(tile, block, own, ahead, memory, part);
    context.kernels->merge(total, part, tile.num_rows, work.width);
  }
  finish(work, grid, index, total, out);
}

void attend_by_tiles(const Context& context, const Work& work, unsigned threads, std::span<float> scratch, float* out) {
  const auto tile = [&](size_t i) { return work.num_tiles - 1 - i; };  // late tokens first: they see the most
  Pool::shared().run(work.num_tiles, 1, threads, Claims::single, [&](size_t begin, size_t last, unsigned worker) {
    for (size_t i = begin; i < last; ++i) {
      const size_t next = i + threads;  // the others take those between, most of the time
      attend_tile(context, work, tile(i), next < work.num_tiles ? std::optional(tile(next)) : std::nullopt,
                  scratch.data() + worker * work.room(), out);
    }
  });
}

}  // namespace

void attend(const Context& context, const Attention& attention, float* out) {
  if (attention.segments.empty() || attention.num_heads == 0) return;
  Workspace memory;
  const Work work(context, attention, memory.take<Grid>(attention.segments.size()));
  // Taken whether this call needs them or not: a deeper one may.
  const bool few_tiles = context.threads > 1 && work.num_tiles < 4 * size_t(context.threads);
  const std::span<float> scratch = memory.take<float>(context.threads * work.room());
  const std::span<float> partials = memory.take<float>(few_tiles ? work.most_items() * work.partial_floats : 0);
  const bool alone = work.work < kAloneWork;
  if (few_tiles && !alone)
    attend_by_blocks(context, work, scratch, partials, out);
  else
    attend_by_tiles(context, work, alone ? 1 : context.threads, scratch, out);
}

}  // namespace apportion
