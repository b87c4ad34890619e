// Scores of many queries: a page's keys are turned first, so that places are in the lanes and nothing is added across
// them. A score is the same sum, number for number, as of one query alone: first what would be in each of the eight
// lanes, then the lanes' sums in the order of `sum`.
//
//         places: 0 .. 15   16 .. 31
//   d = 0       | k k k .. | k k k .. |
//   d = 1       | k k k .. | k k k .. |
#pragma once

#include <algorithm>

#include "kv_rows.h"

namespace apportion::APPORTION_ISA {

template <class Rows>
void turn_keys(const KvPage& page, size_t width, float* turned) {
  const Rows keys(page.keys, width);
  for (size_t p = 0; p < kPageTokens; p += 8)
    for (size_t d = 0; d < width; d += 8) {
      const size_t count = std::min<size_t>(8, width - d);
      F8 eight[8];
      for (size_t i = 0; i < 8; ++i)
        eight[i] = count == 8 ? Rows::load(keys.row(p + i), d) : Rows::load_few(keys.row(p + i), d, count);
      transpose(eight);
      for (size_t i = 0; i < count; ++i) eight[i].store(turned + (d + i) * kPageTokens + p);
    }
}

inline constexpr size_t kTurnedPlaces = 2 * Wide::kLanes;  // scored at a time

// Lane `first` of the sums of R rows and the places that begin at `turned`.
template <int R>
[[gnu::always_inline]] inline void sum_lane(const float* const* q, const float* turned, size_t width, size_t first,
                                            Wide (&sums)[R][2]) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = Wide::all(0);
  for (size_t d = first; d < width; d += 8) {
    const Wide low = Wide::load(turned + d * kPageTokens), high = Wide::load(turned + d * kPageTokens + Wide::kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Wide x = Wide::all(q[r][d]);
      sums[r][0] = fma(x, low, sums[r][0]);
      sums[r][1] = fma(x, high, sums[r][1]);
    }
  }
}

template <int R>
[[gnu::noinline]] void score_turned(const float* const* q, const float* turned, size_t width, float* scores) {
  const auto at = [scores](int r, int half) { return scores + size_t(r) * kAttendBlock + size_t(half) * Wide::kLanes; };
  for (size_t odd = 0; odd < 2; ++odd) {
    Wide fours[R][2], pairs[R][2], lane[R][2];
    const auto add = [](Wide(&to)[R][2], const Wide(&from)[R][2]) {
#pragma GCC unroll 8
      for (int i = 0; i < 2 * R; ++i) to[i / 2][i % 2] = to[i / 2][i % 2] + from[i / 2][i % 2];
    };
    sum_lane<R>(q, turned, width, odd, fours);
    sum_lane<R>(q, turned, width, odd + 4, lane);
    add(fours, lane);
    sum_lane<R>(q, turned, width, odd + 2, pairs);
    sum_lane<R>(q, turned, width, odd + 6, lane);
    add(pairs, lane);
    add(fours, pairs);
#pragma GCC unroll 8
    for (int i = 0; i < 2 * R; ++i) {
      float* to = at(i / 2, i % 2);
      (odd ? Wide::load(to) + fours[i / 2][i % 2] : fours[i / 2][i % 2]).store(to);
    }
  }
}

}  // namespace apportion::APPORTION_ISA
