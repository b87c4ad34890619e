// Attention of a tile of queries over one block of 128 places, as a partial result.
//
// Keys and values are read where they lie, page by page and row by row, codes converted on the way:
//
//         d: 0 .. 7   8 .. 15                       place p:     v v v v | v v v v |     d in the lanes
//   query | q q .. | q q .. |                       place p + 1: v v v v | v v v v |
//     x       x        x         8 sums for each                   x share     ..       one sum for each
//   place | k k .. | k k .. |    query and place    query:       + + + + | + + + + |    query and d
//
// Codes that have scales are not multiplied by them one by one: a key's scale is the score's, a value's scale is the
// share's, and its offset comes in with the sum of the query's numbers or of the shares:
//
//   q . (scale * codes + offset) = scale * (q . codes) + offset * sum(q)
//
// Nibbles meet queries that are rounded to bytes, unless all is to be exact (nibble_dots.h).
//
// Scores: lane i adds up dimensions i, i + 8, .. in order, then the lanes are added in the fixed order of `sum`.
// Values: each dimension adds up the places in order. So a row's arithmetic depends on its own place only: not on the
// tile around it, nor on how many rows and places are computed at once, nor on how pages follow one another.
//
// Memory never rests: it is asked for the block's values while scores are computed, and for the keys that are read a
// block later while values are.
#include <algorithm>
#include <limits>

#include "ask.h"
#include "isa.h"
#include "nibble_dots.h"
#include "turned_keys.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = kAttendBlock;

// Asks memory for what will be read next, as if it lay in the codec at hand. Many queries compute longer on a block
// than memory takes, and asking costs time too: then there is nothing to ask for.
template <bool Asks>
void prefetch(const uint8_t* first, size_t nbytes) {
  if constexpr (Asks)
    for (size_t i = 0; i < nbytes; i += 64) ask_for(first + i);
}

constexpr size_t kFewRows = 4;    // queries that wait for memory
constexpr size_t kManyRows = 12;  // queries that are worth turning keys for

constexpr size_t kRowsTogether = 4;  // queries that are computed together, at most

// Calls body(R, row) for all rows of a tile, R of them at a time: as many as registers allow.
template <class Body>
void for_rows(const AttendTile& tile, Body&& body) {
  for (size_t row = 0; row < tile.num_rows;) {
    const auto call = [&]<int R>(std::integral_constant<int, R> count) {
      body(count, row);
      row += R;
    };
    switch (const size_t rest = tile.num_rows - row; kFloatRegisters < 32 && rest > 4 ? 3 : std::min<size_t>(rest, 4)) {
      case 1: call(std::integral_constant<int, 1>()); break;
      case 2: call(std::integral_constant<int, 2>()); break;
      case 3: call(std::integral_constant<int, 3>()); break;
      default: call(std::integral_constant<int, 4>()); break;
    }
  }
}

// Places low .. end - 1 of the block, or of a page.
struct Places {
  size_t low, end;

  bool empty() const { return low >= end; }
  size_t first_page() const { return low / kPageTokens; }
  size_t end_page() const { return (end + kPageTokens - 1) / kPageTokens; }
};

// What a row sees of the block whose first place is `first`.
Places places_seen(const AttendTile& tile, size_t row, size_t first) {
  const size_t place = tile.first_place + row / tile.num_heads;
  const size_t lowest = tile.window && place >= tile.window ? place - tile.window + 1 : 0;
  return {lowest > first ? std::min(lowest - first, kBlock) : 0,
          place >= first ? std::min(place - first + 1, kBlock) : 0};
}

// The part of a block's places that lies in one of its pages, counted from the page's first.
[[gnu::always_inline]] inline Places of_page(Places places, size_t page) {
  const size_t first = page * kPageTokens;
  return {std::clamp(places.low, first, first + kPageTokens) - first,
          std::clamp(places.end, first, first + kPageTokens) - first};
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

const float* query_of(const AttendTile& tile, size_t row) {
  return tile.q + row / tile.num_heads * tile.q_token_stride + row % tile.num_heads * tile.q_head_stride;
}

// Vectors of keys or values that R rows compute side by side. Groups of nibbles take registers of their own.
template <int R, class Rows>
constexpr int kTogether = R == 1                                                           ? 8
                          : kFloatRegisters < 32 && (R == 4 || (R == 3 && Rows::kRun > 8)) ? 2
                                                                                           : 4;

// Places whose keys share a vector, eight lanes each.
constexpr size_t kShared = Wide::kLanes / 8;

// The sums of each place's lanes -> scores [R][kBlock], those of C vectors for each row.
template <int R, int C>
void store_sums(const Wide (&sums)[R][C], float* scores) {
  if constexpr (kShared == 2) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int c = 0; c < C; c += 4)
        sum8(sums[r][c], sums[r][c + 1], sums[r][c + 2], sums[r][c + 3], scores + size_t(r) * kBlock + 2 * c);
  } else if constexpr (C % 4 == 0) {
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

// scores[r][place] = q[r] . key, for R rows and C vectors of places at a time, from the page's first: what lies before
// and behind the places is hidden later. What is ahead is asked for at the pace of the scores.
template <int R, bool Asks, class Rows>
void score_places(const float* const* q, const Rows& keys, size_t width, const uint8_t* ahead, Places places,
                  float* scores) {
  constexpr int C = kTogether<R, Rows>;
  constexpr size_t kTurn = size_t(C) * kShared;
  static_assert(kPageTokens % kTurn == 0);
  if (places.empty()) return;
  for (size_t p = places.low / kTurn * kTurn; p < places.end; p += kTurn) {
    Wide sums[R][C];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sums[r][c] = Wide::all(0);
    const auto step = [&](auto query, auto key) {
      Wide kept[R];  // R + 1 vectors and R * C sums are what the registers hold
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) kept[r] = twice(query(q[r]));
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const size_t place = p + size_t(c) * kShared;
        const Wide k = joined(key(keys.row(place)), key(keys.row(place + kShared - 1)));
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r][c] = fma(kept[r], k, sums[r][c]);
      }
    };
    size_t d = 0;
    for (; d + Rows::kRun <= width; d += Rows::kRun) {
      prefetch<Asks>(ahead + Rows::nbytes(p * width + kTurn * d), Rows::nbytes(Rows::kRun * kTurn));
#pragma GCC unroll 2
      for (size_t h = 0; h < Rows::kRun; h += 8)
        step([=](const float* x) { return F8::load(x + d + h); }, [=](auto x) { return Rows::load(x, d, h); });
    }
    if constexpr (Rows::kRun > 8)
      for (; d + 8 <= width; d += 8)
        step([d](const float* x) { return F8::load(x + d); }, [d](auto x) { return Rows::load(x, d); });
    if (const size_t rest = width - d)
      step([=](const float* x) { return load_some(x + d, rest); }, [=](auto x) { return Rows::load_few(x, d, rest); });
    store_sums(sums, scores + p);
  }
}

bool is_live(const KvPage& page, size_t place) { return page.live >> place & 1; }

// The sum of a query's numbers, which meets the offset of each key.
float sum_of(const float* q, size_t width) {
  F8 sums = F8::all(0);
  size_t d = 0;
  for (; d + 8 <= width; d += 8) sums = sums + F8::load(q + d);
  return sum(sums + load_some(q + d, width - d));
}

// The scores of codes become those of keys, in whole vectors: hidden places get anything.
template <class Rows>
void scale_scores(const KvPage& page, Places places, float sum_of_query, float* scores) {
  for (size_t p = places.low / 8 * 8; p < places.end; p += 8) {
    F8 score = F8::load(scores + p) * F8::load_half(page.key_scales + p);
    if constexpr (Rows::kOffset)
      score = fma(F8::load_half(page.key_scales + kPageTokens + p), F8::all(sum_of_query), score);
    score.store(scores + p);
  }
}

// The offsets of eight values, zero for those that a row does not see: what lies there may be no number.
F8 offsets_seen(const KvPage& page, Places seen, size_t first) {
  const uint16_t* offsets = page.value_scales + kPageTokens + first;
  if (seen.low <= first && first + 8 <= seen.end && page.live == kAllLive) return F8::load_half(offsets);
  uint16_t some[8] = {};
  for (size_t i = 0; i < 8; ++i)
    if (seen.low <= first + i && first + i < seen.end && is_live(page, first + i)) some[i] = offsets[i];
  return F8::load_half(some);
}

// Shares of values become shares of their codes, in whole vectors; returns share * offset, to be added up.
template <class Rows>
F8 scale_shares(const KvPage& page, Places seen, float* shares) {
  F8 sums = F8::all(0);
  for (size_t p = seen.low / 8 * 8; p < seen.end; p += 8) {
    const F8 share = F8::load(shares + p);
    if constexpr (Rows::kOffset) sums = fma(share, offsets_seen(page, seen, p), sums);
    (share * F8::load_half(page.value_scales + p)).store(shares + p);
  }
  return sums;
}

// The same for the nibbles of a page and queries of bytes, four rows at a time; the page's values are asked for.
template <int R, bool Asks>
void score_nibbles(const KvPage& page, size_t width, const ByteQuery* queries, Places places, float* scores) {
  if (places.empty()) return;
  const size_t nbytes = kv_row_nbytes(KvCodec::q4, width);
  for (size_t p = places.low / 4 * 4; p < places.end; p += 4) {
    prefetch<Asks>(page.values + p * nbytes, 4 * nbytes);
    dot_nibbles<R>(page.keys + p * nbytes, nbytes, queries, scores + p, kBlock);
  }
}

void hide_dead(const KvPage* pages, Places seen, float* scores) {
  for (size_t p = seen.low; p < seen.end; ++p)
    if (!is_live(pages[p / kPageTokens], p % kPageTokens)) scores[p] = kMinusInfinity;
}

// One row's scores become shares relative to exp(top); those of hidden places are not touched.
void softmax_row(const AttendTile& tile, const KvPage* pages, bool all_live, Places seen, float* scores, float& top,
                 float& total) {
  constexpr size_t kStep = Wide::kLanes;
  const size_t begin = seen.low / kStep * kStep, end = round_up(seen.end, kStep);
  for (size_t p = begin; p < end; p += kStep) {
    Wide s = Wide::load(scores + p) * Wide::all(tile.scale);
    if (tile.softcap > 0) s = Wide::all(tile.softcap) * tanh(s / Wide::all(tile.softcap));
    s.store(scores + p);
  }
  std::fill(scores + begin, scores + seen.low, kMinusInfinity);
  std::fill(scores + seen.end, scores + end, kMinusInfinity);
  if (!all_live) hide_dead(pages, seen, scores);
  Wide best = Wide::all(kMinusInfinity);
  for (size_t p = begin; p < end; p += kStep) best = max(best, Wide::load(scores + p));
  top = largest(best);
  if (!all_live && top == kMinusInfinity) return;  // nothing seen
  F8 sums = F8::all(0);
  for (size_t p = begin; p < end; p += kStep) {
    const Wide share = exp(Wide::load(scores + p) - Wide::all(top));
    share.store(scores + p);
    sums = add_eights(sums, share);
  }
  total = sum(sums);
}

// What the sums of values go through: pages of a block in one codec. `ahead` are those that are read a block later.
struct Run {
  const KvPage *pages, *ahead;
  size_t begin, end;
  size_t row_width;      // numbers from row to row
  bool is_first;         // otherwise sums go on from what the block's pages before gave
  const float* offsets;  // of each row: the sum of share * offset, where the codec has offsets
};

// R rows' sums over the places that each sees: share * value, C vectors side by side.
template <class V, int R, int C, class Rows, class Load>
void weigh_columns(const float* shares, const Places (&seen)[R], const Run& run, Load load, float* values,
                   size_t width) {
  V sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      sums[r][c] = run.is_first ? V::all(0) : V::load(values + size_t(r) * width + V::kLanes * size_t(c));
      if constexpr (Rows::kOffset) sums[r][c] = sums[r][c] + V::all(run.offsets[r]);
    }
  const Places any = united(seen), all = common(seen, any);
  for (size_t page = run.begin; page < run.end; ++page) {
    const Rows rows(run.pages[page].values, run.row_width);
    const float* const own = shares + page * kPageTokens;
    const auto share = [own](int r, size_t p) { return V::all(own[size_t(r) * kBlock + p]); };
    // The fewer, shares or values, stay in registers while the others pass.
    const auto step = [&](size_t p, auto sees) {
      constexpr int kFew = std::min(R, C), kMany = std::max(R, C);
      V kept[kFew];
      for (int i = 0; i < kFew; ++i) kept[i] = R < C ? share(i, p) : load(rows, page, p, i);
      for (int j = 0; j < kMany; ++j) {
        const V passing = R < C ? load(rows, page, p, j) : share(j, p);
        for (int i = 0; i < kFew; ++i) {
          const int r = R < C ? i : j, c = R < C ? j : i;
          if (sees(r)) sums[r][c] = fma(kept[i], passing, sums[r][c]);
        }
      }
    };
    const Places some = of_page(any, page), whole = of_page(all, page);
    const auto some_see = [&](size_t p) {
      const size_t place = page * kPageTokens + p;
      step(p, [&](int r) { return seen[r].low <= place && place < seen[r].end; });
    };
    if (run.pages[page].live != kAllLive) {
      for (size_t p = some.low; p < some.end; ++p)
        if (is_live(run.pages[page], p)) some_see(p);
      continue;
    }
    for (size_t p = some.low; p < whole.low; ++p) some_see(p);
    for (size_t p = whole.low; p < whole.end; ++p) step(p, [](int) { return true; });
    for (size_t p = std::max(some.low, whole.end); p < some.end; ++p) some_see(p);
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c].store(values + size_t(r) * width + V::kLanes * size_t(c));
}

// Vectors of values that R rows add up side by side: the most common width is 64.
template <int R, class Rows>
constexpr int kVectors = Wide::kLanes > 8 ? 4 : kTogether<R, Rows>;

// The keys of the pages ahead are asked for at the pace of the sums.
template <int R, bool Asks, class Rows>
void weigh(const float* shares, const Places (&seen)[R], const Run& run, size_t value_width, float* values,
           size_t width) {
  using V = Wide;
  constexpr size_t kLanes = V::kLanes, kTurn = kLanes * size_t(kVectors<R, Rows>);
  size_t d = 0;
  const auto whole = [&](const Rows& rows, size_t page, size_t p, int c) {
    if (c == 0) prefetch<Asks>(run.ahead[page].keys + Rows::nbytes(d * kPageTokens + p * kTurn), Rows::nbytes(kTurn));
    const size_t number = kLanes * size_t(c), run_start = number / Rows::kRun * Rows::kRun;
    return Rows::template load<V>(rows.row(p), d + run_start, number - run_start);
  };
  for (; d + kTurn <= value_width; d += kTurn)
    weigh_columns<V, R, kVectors<R, Rows>, Rows>(shares, seen, run, whole, values + d, width);
  if constexpr (kLanes > 8)
    for (; d + kLanes <= value_width; d += kLanes)
      weigh_columns<V, R, 1, Rows>(
          shares, seen, run,
          [&](const Rows& rows, size_t, size_t p, int) { return Rows::template load<V>(rows.row(p), d, 0); },
          values + d, width);
  for (; d + 8 <= value_width; d += 8)
    weigh_columns<F8, R, 1, Rows>(
        shares, seen, run, [&](const Rows& rows, size_t, size_t p, int) { return Rows::load(rows.row(p), d); },
        values + d, width);
  if (const size_t rest = value_width - d)
    weigh_columns<F8, R, 1, Rows>(
        shares, seen, run,
        [&](const Rows& rows, size_t, size_t p, int) { return Rows::load_few(rows.row(p), d, rest); }, values + d,
        width);
}

// What the rows of a tile read.
struct Reading {
  const AttendTile& tile;
  size_t first;                          // place of the block
  const KvPage *pages, *values, *ahead;  // `values`: the same pages, their values perhaps written out
};

bool meets_bytes(const AttendTile& tile) { return !tile.exact && tile.key_width <= kMaxByteQuery; }

// The scores of the codes of the places that any of the rows sees.
template <int R, bool Asks>
void score_seen(const Reading& from, const float* const* q, Places any, float* scores) {
  const AttendTile& tile = from.tile;
  for_runs(from.pages, any.first_page(), any.end_page(),
           [&]<class Rows>(std::type_identity<Rows>, size_t first, size_t last) {
             ByteQuery bytes[R];
             const bool by_bytes = Rows::kNibbles && meets_bytes(tile);
             if (by_bytes)
               for (size_t r = 0; r < R; ++r) to_bytes(q[r], tile.key_width, bytes[r]);
             for (size_t page = first; page < last; ++page) {
               const KvPage& own = from.pages[page];
               if (by_bytes)
                 score_nibbles<R, Asks>(own, tile.key_width, bytes, of_page(any, page), scores + page * kPageTokens);
               else
                 score_places<R, Asks>(q, Rows(own.keys, tile.key_width), tile.key_width, own.values,
                                       of_page(any, page), scores + page * kPageTokens);
             }
           });
}

// The same for all rows of a tile, page by page; `scores` [num_rows][kBlock].
void score_tile(const Reading& from, float* scores, float* turned) {
  const AttendTile& tile = from.tile;
  const Places last = places_seen(tile, tile.num_rows - 1, from.first), first = places_seen(tile, 0, from.first);
  const Places any{std::min(first.low, last.low), last.end};
  for_runs(from.pages, any.first_page(), any.end_page(),
           [&]<class Rows>(std::type_identity<Rows>, size_t begin, size_t end) {
             for (size_t page = begin; page < end; ++page) {
               turn_keys<Rows>(from.pages[page], tile.key_width, turned);
               for_rows(tile, [&]<int R>(std::integral_constant<int, R>, size_t row) {
                 const float* q[R];
                 Places seen[R];
                 for (size_t r = 0; r < R; ++r) {
                   q[r] = query_of(tile, row + r);
                   seen[r] = places_seen(tile, row + r, from.first);
                 }
                 const Places own = of_page(united(seen), page);
                 for (size_t p = own.low / kTurnedPlaces * kTurnedPlaces; p < own.end; p += kTurnedPlaces)
                   score_turned<R>(q, turned + p, tile.key_width, scores + row * kBlock + page * kPageTokens + p);
               });
             }
           });
}

template <int R, bool Asks>
void attend_seen(const Reading& from, const float* const* q, const Places (&seen)[R], size_t row, float* scores,
                 bool is_scored, const Partial& out) {
  const AttendTile& tile = from.tile;
  const size_t width = round_up(tile.value_width, 8);
  const Places any = united(seen);
  const size_t begin = any.first_page(), end = any.end_page();
  bool all_live = true;
  for (size_t page = begin; page < end; ++page) all_live = all_live && from.pages[page].live == kAllLive;
  if (!is_scored) score_seen<R, Asks>(from, q, any, scores);
  for_runs(from.pages, begin, end, [&]<class Rows>(std::type_identity<Rows>, size_t first, size_t last) {
    if constexpr (Rows::kScaled)
      for (size_t r = 0; r < R; ++r) {
        const float sum_of_query = Rows::kOffset ? sum_of(q[r], tile.key_width) : 0;
        for (size_t page = first; page < last; ++page)
          scale_scores<Rows>(from.pages[page], of_page(any, page), sum_of_query,
                             scores + r * kBlock + page * kPageTokens);
      }
  });
  for (size_t r = 0; r < R; ++r)
    if (!seen[r].empty())
      softmax_row(tile, from.pages, all_live, seen[r], scores + r * kBlock, out.top[row + r], out.sum[row + r]);
  for_runs(from.values, begin, end, [&]<class Rows>(std::type_identity<Rows>, size_t first, size_t last) {
    float offsets[R] = {};
    if constexpr (Rows::kScaled)
      for (size_t r = 0; r < R; ++r) {
        F8 sums = F8::all(0);
        for (size_t page = first; page < last; ++page)
          sums = sums +
                 scale_shares<Rows>(from.pages[page], of_page(seen[r], page), scores + r * kBlock + page * kPageTokens);
        offsets[r] = sum(sums);
      }
    const size_t row_width = tile.joint ? tile.key_width : tile.value_width;
    const Run run{from.values, from.ahead, first, last, row_width, first == begin, offsets};
    weigh<R, Asks, Rows>(scores, seen, run, tile.value_width, out.values + row * width, width);
  });
}

template <int R>
void attend_rows(const Reading& from, size_t row, float* scores, bool is_scored, const Partial& out) {
  const float* q[R];
  Places seen[R];
  for (size_t r = 0; r < R; ++r) {
    q[r] = query_of(from.tile, row + r);
    seen[r] = places_seen(from.tile, row + r, from.first);
    out.top[row + r] = kMinusInfinity;
    out.sum[row + r] = 0;
  }
  if (united(seen).empty()) return;
  if (from.tile.num_rows > kFewRows || from.tile.joint)
    attend_seen<R, false>(from, q, seen, row, scores, is_scored, out);
  else
    attend_seen<R, true>(from, q, seen, row, scores, is_scored, out);
}

// The block's pages with values in half precision written out as floats, once for all rows.
const KvPage* values_as_floats(const Reading& from, float* numbers, KvPage* pages) {
  const size_t width = from.tile.value_width;
  const Places last = places_seen(from.tile, from.tile.num_rows - 1, from.first);
  for (size_t page = 0; page < kAttendPages; ++page, numbers += kPageTokens * width) {
    pages[page] = from.pages[page];
    if (page >= last.end_page() || pages[page].codec != KvCodec::f16) continue;
    const auto* halves = reinterpret_cast<const uint16_t*>(pages[page].values);
    static_assert(kPageTokens % 8 == 0);
    for (size_t i = 0; i < kPageTokens * width; i += 8) F8::load_half(halves + i).store(numbers + i);
    pages[page].codec = KvCodec::f32;
    pages[page].values = reinterpret_cast<uint8_t*>(numbers);
  }
  return pages;
}

// Whether turning the keys of the block is worth while, and what they are is not met by bytes.
bool turns_keys(const AttendTile& tile, const KvPage* pages) {
  return tile.num_rows >= kManyRows && std::none_of(pages, pages + kAttendPages, [&](const KvPage& page) {
           return page.codec == KvCodec::q4 && meets_bytes(tile);
         });
}

}  // namespace

size_t attend_scratch(size_t num_rows, size_t key_width, size_t value_width) {
  if (num_rows < kManyRows) return kRowsTogether * kBlock;
  return num_rows * kBlock + round_up(key_width, 8) * kPageTokens + (F8::kSlowHalves ? kBlock * value_width : 0);
}

void attend_block(const AttendTile& tile, size_t block, const KvPage* pages, const KvPage* ahead, float* scratch,
                  const Partial& out) {
  Reading from{tile, block * kBlock, pages, pages, ahead};
  const bool is_scored = turns_keys(tile, pages);
  KvPage as_floats[kAttendPages];
  if (is_scored) {
    float* const turned = scratch + tile.num_rows * kBlock;
    score_tile(from, scratch, turned);
    if (F8::kSlowHalves && !tile.joint)
      from.values = values_as_floats(from, turned + round_up(tile.key_width, 8) * kPageTokens, as_floats);
  }
  for_rows(tile, [&]<int R>(std::integral_constant<int, R>, size_t row) {
    attend_rows<R>(from, row, is_scored ? scratch + row * kBlock : scratch, is_scored, out);
  });
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
