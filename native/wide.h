// The widest floats of the instruction set: what does not depend on which lane a number is in computes with these. What
// is added up across lanes keeps to the eight of F8, so that it is the same for every width.
#pragma once

#include "simd.h"

namespace apportion::APPORTION_ISA {

#if defined(APPORTION_AVX512) && !defined(APPORTION_EMULATED)

inline constexpr int kFloatRegisters = 32;

struct F16 {
  __m512 v;
  static constexpr size_t kLanes = 16;

  static F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F16 load_half(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static F16 load_bf16(const uint16_t* p) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(words, 16))};
  }
  static F16 load_bytes(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  // The lower halves of eight bytes, then the upper ones.
  static F16 load_nibbles(const uint8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i both = _mm_and_si128(_mm_unpacklo_epi64(bytes, _mm_srli_epi16(bytes, 4)), _mm_set1_epi8(15));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(both))};
  }
  static F16 all(float x) { return {_mm512_set1_ps(x)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
};

inline F16 operator+(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F16 operator-(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F16 operator*(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F16 operator/(F16 a, F16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F16 zero_below(F16 x, F16 a, F16 b) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ), x.v)};
}
inline F16 power_from_bits(F16 n) {
  const __m512i biased = _mm512_add_epi32(_mm512_castps_si512(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
}
inline F16 joined(F8 lower, F8 upper) { return {_mm512_insertf32x8(_mm512_castps256_ps512(lower.v), upper.v, 1)}; }
inline F16 twice(F8 a) { return {_mm512_broadcast_f32x8(a.v)}; }
inline F8 lower_eight(F16 a) { return {_mm512_castps512_ps256(a.v)}; }
inline F8 upper_eight(F16 a) { return {_mm512_extractf32x8_ps(a.v, 1)}; }
inline float largest(F16 a) { return largest(max(lower_eight(a), upper_eight(a))); }
// Adds lanes 0 .. 7, then lanes 8 .. 15.
inline F8 add_eights(F8 sums, F16 a) { return (sums + lower_eight(a)) + upper_eight(a); }

// The sums of eight times eight lanes, each added up in the order of `sum`.
inline void sum8(F16 a, F16 b, F16 c, F16 d, float* out) {
  const auto halves = [](__m512 x, __m512 y) {  // of four eights, each in lanes of its own
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
  };
  const __m512 ab = halves(a.v, b.v), cd = halves(c.v, d.v);
  const __m512 pairs = _mm512_add_ps(_mm512_unpacklo_ps(ab, cd), _mm512_unpackhi_ps(ab, cd));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0x4e));
  const __m512i order = _mm512_castsi256_si512(_mm256_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13));
  _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums)));
}

using Wide = F16;

#else

#if defined(APPORTION_AVX2)
inline constexpr int kFloatRegisters = 16;
#else
inline constexpr int kFloatRegisters = 8;  // pairs
#endif

inline F8 joined(F8 only, F8) { return only; }
inline F8 twice(F8 a) { return a; }
inline F8 add_eights(F8 sums, F8 a) { return sums + a; }

using Wide = F8;

#endif

// Lane i of vector j becomes lane j of vector i.
inline void transpose(F8 (&rows)[8]) {
#if defined(APPORTION_AVX2)
  __m256 pairs[8], quads[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
#else
  float numbers[8][8], turned[8][8];
  for (int i = 0; i < 8; ++i) rows[i].store(numbers[i]);
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) turned[j][i] = numbers[i][j];
  for (int i = 0; i < 8; ++i) rows[i] = F8::load(turned[i]);
#endif
}

}  // namespace apportion::APPORTION_ISA
