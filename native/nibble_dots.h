// Products of nibbles, as the codec q4 packs them (kv_codec.h), with queries that are rounded to int8:
//
//   32 bytes of a row     | lower halves: numbers 0 .. 7, 16 .. 23, 32 .. | upper: 8 .. 15, 24 .. 31, .. |
//   64 codes of a query   | those that meet lower halves [32]             | those that meet upper [32]   |
//
// Sums of whole numbers are exact: their order is free, and every instruction set gives the same.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

inline constexpr size_t kNibbleChunk = 32;     // bytes of a row that are multiplied at once
inline constexpr size_t kMaxByteQuery = 1024;  // numbers; longer queries stay floats
inline constexpr float kMostQuery = 127.0f;

struct ByteQuery {
  float scale;
  alignas(32) std::array<int8_t, kMaxByteQuery> codes;
};

// q [width] = scale * codes; what fills up the last chunk is zero. Where a number is not finite, the scale is none.
inline void to_bytes(const float* q, size_t width, ByteQuery& out) {
  const auto load = [&](size_t d) { return d + 8 <= width ? F8::load(q + d) : load_some(q + d, width - d); };
  F8 most = F8::all(0), wrong = F8::all(0);
  for (size_t d = 0; d < width; d += 8) {
    const F8 x = load(d);
    most = max(most, max(x, F8::all(0) - x));
    wrong = wrong + (x - x);
  }
  std::fill_n(out.codes.begin(), round_up(width, 2 * kNibbleChunk), int8_t(0));
  out.scale = largest(most) / kMostQuery;
  if (sum(wrong) != 0) out.scale = std::numeric_limits<float>::quiet_NaN();
  if (!(out.scale > 0)) return;
  const F8 inverse = F8::all(1.0f / out.scale), limit = F8::all(kMostQuery);
  for (size_t d = 0; d < width; d += 8) {  // by halves of groups
    const size_t byte = d / kNibbleGroup * 8, is_upper = d / 8 % 2;
    int8_t* codes = out.codes.data() + (2 * (byte / kNibbleChunk) + is_upper) * kNibbleChunk + byte % kNibbleChunk;
    float lanes[8];
    max(F8::all(0) - limit, min(limit, rounded(load(d) * inverse))).store(lanes);
    for (size_t i = 0; i < 8; ++i) codes[i] = int8_t(lanes[i]);
  }
}

#if defined(APPORTION_AVX2)

// The first bytes of a chunk, whole groups; the others are zero.
inline __m256i load_groups(const uint8_t* p, size_t nbytes) {
  const auto count = [nbytes](size_t i) { return 8 * i < nbytes ? -1LL : 0LL; };
  const __m256i some = _mm256_setr_epi64x(count(0), count(1), count(2), count(3));
  return _mm256_maskload_epi64(reinterpret_cast<const long long*>(p), some);
}

// The sums of four vectors' lanes.
inline __m128i sum4(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  return _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1));
}

// sums[r] = query r . row; rows are `nbytes` long.
template <int R>
[[gnu::always_inline]] inline void dot_row(const uint8_t* row, size_t nbytes, const ByteQuery* queries,
                                           __m256i (&sums)[R]) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const auto add = [&](__m256i both, size_t at, bool is_first) {
    const __m256i lower = _mm256_and_si256(both, low);
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    for (int r = 0; r < R; ++r) {
      const auto* codes = reinterpret_cast<const __m256i*>(queries[r].codes.data() + 2 * at);
      const __m256i words = _mm256_add_epi16(_mm256_maddubs_epi16(lower, _mm256_load_si256(codes)),
                                             _mm256_maddubs_epi16(upper, _mm256_load_si256(codes + 1)));
      const __m256i fresh = _mm256_madd_epi16(words, ones);
      sums[r] = is_first ? fresh : _mm256_add_epi32(sums[r], fresh);
    }
  };
  const auto whole = [row](size_t at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + at)); };
  if (nbytes < kNibbleChunk) return add(load_groups(row, nbytes), 0, true);
  add(whole(0), 0, true);
  size_t at = kNibbleChunk;
  for (; at + kNibbleChunk <= nbytes; at += kNibbleChunk) add(whole(at), at, false);
  if (at < nbytes) add(load_groups(row + at, nbytes - at), at, false);
}

// scores[r * stride + c] = query r . row c, for four rows of `nbytes`.
template <int R>
[[gnu::always_inline]] inline void dot_nibbles(const uint8_t* rows, size_t nbytes, const ByteQuery* queries,
                                               float* scores, size_t stride) {
  __m256i sums[4][R];
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) dot_row<R>(rows + size_t(c) * nbytes, nbytes, queries, sums[c]);
  for (int r = 0; r < R; ++r) {
    const __m128 all = _mm_cvtepi32_ps(sum4(sums[0][r], sums[1][r], sums[2][r], sums[3][r]));
    _mm_storeu_ps(scores + size_t(r) * stride, _mm_mul_ps(all, _mm_set1_ps(queries[r].scale)));
  }
}

#else

template <int R>
void dot_nibbles(const uint8_t* rows, size_t nbytes, const ByteQuery* queries, float* scores, size_t stride) {
  for (int r = 0; r < R; ++r)
    for (size_t c = 0; c < 4; ++c) {
      const uint8_t* row = rows + c * nbytes;
      int32_t sum = 0;
      for (size_t at = 0; at < nbytes; at += kNibbleChunk) {
        const int8_t* codes = queries[r].codes.data() + 2 * at;
        const size_t count = std::min(kNibbleChunk, nbytes - at);
        for (size_t i = 0; i < count; ++i)
          sum += (row[at + i] & 15) * codes[i] + (row[at + i] >> 4) * codes[kNibbleChunk + i];
      }
      scores[size_t(r) * stride + c] = float(sum) * queries[r].scale;
    }
}

#endif

}  // namespace apportion::APPORTION_ISA
