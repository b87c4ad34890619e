// Attention of a tile of queries over one block of 128 positions, as a partial result.
//
// Keys and values are read where they lie, row by row, halves converted on the way:
//
//            d: 0 .. 7   8 .. 15                          position p:   v v v v | v v v v |     d in the lanes
//   query    | q q .. | q q .. |                          position p+1: v v v v | v v v v |
//     x          x        x         8 sums for each                       x share     ..       one sum for each
//   position | k k .. | k k .. |    query and position    query:        + + + + | + + + + |    query and d
//
// Scores: lane i adds up dimensions i, i + 8, .. in order, then the lanes are added in the fixed order of `sum`.
// Values: each dimension adds up the positions in order. So a row's arithmetic depends on its own position only: not on
// the tile around it, nor on how many rows and positions are computed at once.
//
// Memory never rests: it is asked for the block's values while scores are computed, and for the next block's keys while
// values are.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = kAttendBlock;

F8 load8(const float* p) { return F8::load(p); }
F8 load8(const uint16_t* p) { return F8::load_half(p); }
F8 load_few(const float* p, size_t count) { return load_some(p, count); }
F8 load_few(const uint16_t* p, size_t count) { return load_half_some(p, count); }

// Keys or values of a block; `row(p)` is that of its place p.
template <class Number>
struct Rows {
  const Number* first;
  size_t stride, size;

  const Number* row(size_t place) const { return first + place * stride; }

  bool contiguous() const { return stride == size; }

  // Asks memory for `count` numbers, where the rows lie one after the other.
  void prefetch(size_t number, size_t count) const {
    const char* bytes = reinterpret_cast<const char*>(first + number);
    for (size_t i = 0; i < count * sizeof(Number); i += 64) __builtin_prefetch(bytes + i);
  }
};

// In place of rows to ask for: many queries compute longer on a block than memory takes, and asking costs time too.
struct Nothing {
  void prefetch(size_t, size_t) const {}
};

constexpr size_t kFewRows = 4;  // queries that wait for memory

// Places low .. end - 1 of the block.
struct Places {
  size_t low, end;

  bool empty() const { return low >= end; }
};

// What a row sees of the block whose first position is `first`.
Places places_seen(const AttendTile& tile, size_t row, size_t first) {
  const size_t position = tile.first_position + row / tile.num_heads;
  const size_t lowest = tile.window && position >= tile.window ? position - tile.window + 1 : 0;
  return {lowest > first ? std::min(lowest - first, kBlock) : 0,
          position >= first ? std::min(position - first + 1, kBlock) : 0};
}

// What any of the rows sees (and perhaps places between), and what all see.
template <int R>
Places united(const Places (&seen)[R]) {
  Places any{kBlock, 0};
  for (const Places& one : seen)
    if (!one.empty()) any = {std::min(any.low, one.low), std::max(any.end, one.end)};
  return any;
}

template <int R>
Places common(const Places (&seen)[R], Places any) {
  Places all = any;
  for (const Places& one : seen) all = {std::max(all.low, one.low), std::min(all.end, one.end)};
  all.low = std::min(all.low, any.end);
  return {all.low, std::max(all.low, all.end)};
}

// Does any row see a block after the one whose first position is `first`?
bool seen_after(const AttendTile& tile, size_t first) {
  return tile.first_position + (tile.num_rows - 1) / tile.num_heads >= first + kBlock;
}

const float* query_of(const AttendTile& tile, size_t row) {
  return tile.q + row / tile.num_heads * tile.q_token_stride + row % tile.num_heads * tile.q_head_stride;
}

// The sums of each vector's lanes, four vectors at a time -> scores [R][kBlock], C of each row.
template <int R, int C>
void store_sums(const F8 (&sums)[R][C], float* scores) {
  if constexpr (C % 4 == 0) {
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; c += 4)
        sum4(sums[r][c], sums[r][c + 1], sums[r][c + 2], sums[r][c + 3], scores + size_t(r) * kBlock + c);
  } else if constexpr (R % 2 == 0 && C == 2) {
    for (int r = 0; r < R; r += 2) {
      float both[4];
      sum4(sums[r][0], sums[r][1], sums[r + 1][0], sums[r + 1][1], both);
      for (int i = 0; i < 4; ++i) scores[size_t(r + i / 2) * kBlock + size_t(i % 2)] = both[i];
    }
  } else {
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) scores[size_t(r) * kBlock + size_t(c)] = sum(sums[r][c]);
  }
}

// scores[r][place] = q[r] . key, for R rows and C places at a time as long as C are left; returns the next place.
// The block's values, `ahead`, are asked for at the pace of the scores.
template <int R, int C, class Number, class Ahead>
size_t score_places(const float* const* q, const Rows<Number>& keys, const Ahead& ahead, Places places, float* scores) {
  size_t p = places.low;
  for (; p + C <= places.end; p += C) {
    F8 sums[R][C];
    for (auto& row : sums)
      for (F8& s : row) s = F8::all(0);
    const auto step = [&](auto query, auto key) {
      F8 kept[R];  // R + 1 vectors and R * C sums are what the registers hold
      for (int r = 0; r < R; ++r) kept[r] = query(q[r]);
      for (int c = 0; c < C; ++c) {
        const F8 k = key(keys.row(p + size_t(c)));
        for (int r = 0; r < R; ++r) sums[r][c] = fma(kept[r], k, sums[r][c]);
      }
    };
    size_t d = 0;
    for (; d + 8 <= keys.size; d += 8) {
      ahead.prefetch(p * keys.size + C * d, 8 * C);
      step([d](const float* x) { return F8::load(x + d); }, [d](const Number* x) { return load8(x + d); });
    }
    if (const size_t rest = keys.size - d)
      step([=](const float* x) { return load_some(x + d, rest); },
           [=](const Number* x) { return load_few(x + d, rest); });
    store_sums(sums, scores + p);
  }
  return p;
}

// One row's scores become shares relative to exp(top); those of hidden places are not touched.
void softmax_row(const AttendTile& tile, Places seen, float* scores, float& top, float& total) {
  const size_t begin = seen.low / 8 * 8, end = round_up(seen.end, 8);
  for (size_t p = begin; p < end; p += 8) {
    F8 s = F8::load(scores + p) * F8::all(tile.scale);
    if (tile.softcap > 0) s = F8::all(tile.softcap) * tanh(s / F8::all(tile.softcap));
    s.store(scores + p);
  }
  std::fill(scores + begin, scores + seen.low, kMinusInfinity);
  std::fill(scores + seen.end, scores + end, kMinusInfinity);
  F8 best = F8::all(kMinusInfinity);
  for (size_t p = begin; p < end; p += 8) best = max(best, F8::load(scores + p));
  top = largest(best);
  F8 sums = F8::all(0);
  for (size_t p = begin; p < end; p += 8) {
    const F8 share = exp(F8::load(scores + p) - F8::all(top));
    share.store(scores + p);
    sums = sums + share;
  }
  total = sum(sums);
}

// R rows' sums over the places that each sees: share * value, C vectors side by side.
template <int R, int C, class Load>
void weigh_columns(const float* shares, const Places (&seen)[R], Load load, float* values, size_t width) {
  F8 sums[R][C];
  for (auto& row : sums)
    for (F8& s : row) s = F8::all(0);
  const auto share = [shares](int r, size_t p) { return F8::all(shares[size_t(r) * kBlock + p]); };
  // The fewer, shares or values, stay in registers while the others pass.
  const auto step = [&](size_t p, auto sees) {
    constexpr int kFew = std::min(R, C), kMany = std::max(R, C);
    F8 kept[kFew];
    for (int i = 0; i < kFew; ++i) kept[i] = R < C ? share(i, p) : load(p, i);
    for (int j = 0; j < kMany; ++j) {
      const F8 passing = R < C ? load(p, j) : share(j, p);
      for (int i = 0; i < kFew; ++i) {
        const int r = R < C ? i : j, c = R < C ? j : i;
        if (sees(r)) sums[r][c] = fma(kept[i], passing, sums[r][c]);
      }
    }
  };
  const Places any = united(seen), all = common(seen, any);
  const auto some_see = [&](size_t p) { step(p, [&](int r) { return seen[r].low <= p && p < seen[r].end; }); };
  for (size_t p = any.low; p < all.low; ++p) some_see(p);
  for (size_t p = all.low; p < all.end; ++p) step(p, [](int) { return true; });
  for (size_t p = all.end; p < any.end; ++p) some_see(p);
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c].store(values + size_t(r) * width + size_t(8 * c));
}

// The keys of the block after this, `ahead`, are asked for at the pace of the sums.
template <int R, class Number, class Ahead>
void weigh(const float* shares, const Places (&seen)[R], const Rows<Number>& rows, const Ahead& ahead, float* values,
           size_t width) {
  constexpr int kWide = R == 1 ? 8 : R == 4 ? 2 : 4;
  size_t d = 0;
  const auto whole = [&](size_t p, int c) {
    if (c == 0) ahead.prefetch(d * kBlock + p * 8 * kWide, 8 * kWide);
    return load8(rows.row(p) + d + size_t(8 * c));
  };
  for (; d + 8 * kWide <= rows.size; d += 8 * kWide) weigh_columns<R, kWide>(shares, seen, whole, values + d, width);
  for (; d + 8 <= rows.size; d += 8) weigh_columns<R, 1>(shares, seen, whole, values + d, width);
  if (const size_t rest = rows.size - d)
    weigh_columns<R, 1>(
        shares, seen, [&](size_t p, int) { return load_few(rows.row(p) + d, rest); }, values + d, width);
}

template <int R, class Number>
void attend_rows(const AttendTile& tile, size_t row, size_t first, float* scores, const Partial& out) {
  const size_t width = round_up(tile.value_size, 8);
  const Rows<Number> keys{static_cast<const Number*>(tile.k) + first * tile.k_stride, tile.k_stride, tile.key_size};
  const Rows<Number> rows{static_cast<const Number*>(tile.v) + first * tile.v_stride, tile.v_stride, tile.value_size};
  const float* q[R];
  Places seen[R];
  for (size_t r = 0; r < R; ++r) {
    q[r] = query_of(tile, row + r);
    seen[r] = places_seen(tile, row + r, first);
    out.top[row + r] = kMinusInfinity;
    out.sum[row + r] = 0;
  }
  const Places any = united(seen);
  if (any.empty()) return;
  const auto attend = [&](const auto& values_ahead, const auto& keys_ahead) {
    const size_t rest = score_places<R, R == 1 ? 8 : R == 4 ? 2 : 4>(q, keys, values_ahead, any, scores);
    score_places<R, 1>(q, keys, Nothing(), {rest, any.end}, scores);
    for (size_t r = 0; r < R; ++r)
      if (!seen[r].empty()) softmax_row(tile, seen[r], scores + r * kBlock, out.top[row + r], out.sum[row + r]);
    weigh(scores, seen, rows, keys_ahead, out.values + row * width, width);
  };
  if (tile.num_rows > kFewRows || !keys.contiguous() || !rows.contiguous()) return attend(Nothing(), Nothing());
  // Past the last block that is seen, the block's own keys: they are there already.
  attend(rows, Rows<Number>{keys.row(seen_after(tile, first) ? kBlock : 0), keys.stride, keys.size});
}

template <class Number>
void attend_tile(const AttendTile& tile, size_t first, float* scores, const Partial& out) {
  for (size_t row = 0; row < tile.num_rows;) {
    const auto attend = [&]<int R>(std::integral_constant<int, R>) {
      attend_rows<R, Number>(tile, row, first, scores, out);
      row += R;
    };
    switch (tile.num_rows - row) {
      case 1: attend(std::integral_constant<int, 1>()); break;
      case 2: attend(std::integral_constant<int, 2>()); break;
      case 4: attend(std::integral_constant<int, 4>()); break;
      default: attend(std::integral_constant<int, 3>()); break;
    }
  }
}

}  // namespace

void attend_block(const AttendTile& tile, size_t block, float* scratch, const Partial& out) {
  tile.halves ? attend_tile<uint16_t>(tile, block * kBlock, scratch, out)
              : attend_tile<float>(tile, block * kBlock, scratch, out);
}

void merge(const Partial& total, const Partial& part, size_t num_rows, size_t width) {
  for (size_t r = 0; r < num_rows; ++r) {
    if (part.sum[r] == 0) continue;  // nothing seen
    const float top = part.top[r] > total.top[r] ? part.top[r] : total.top[r];
    const F8 old = exp(F8::all(total.top[r] - top)), fresh = exp(F8::all(part.top[r] - top));
    const float* from = part.values + r * width;
    float* to = total.values + r * width;
    total.top[r] = top;
    total.sum[r] = total.sum[r] * first(old) + part.sum[r] * first(fresh);
    for (size_t d = 0; d < width; d += 8) fma(F8::load(from + d), fresh, F8::load(to + d) * old).store(to + d);
  }
}

}  // namespace apportion::APPORTION_ISA
