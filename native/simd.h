// Eight floats as one value, for the instruction set that the file is compiled for. APPORTION_ISA names the namespace:
// each set has its own copy, so that the linker can never mix them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "half.h"

#if defined(APPORTION_AVX2)
#include <immintrin.h>
#else
#include "quads.h"
#endif

namespace apportion::APPORTION_ISA {

#if defined(APPORTION_AVX2)

struct F8 {
  __m256 v;
  static constexpr size_t kLanes = 8;
  static constexpr bool kSlowHalves = false;  // whether floats of half precision take many instructions

  static F8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F8 load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static F8 load_bf16(const uint16_t* p) {
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16))};
  }
  static F8 load_bytes(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  // The lower halves of eight bytes, and the upper ones.
  static F8 load_lower(const uint8_t* p) {
    const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)))};
  }
  static F8 load_upper(const uint8_t* p) {
    const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4))};
  }
  static F8 all(float x) { return {_mm256_set1_ps(x)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_half(uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
};

inline F8 operator+(F8 a, F8 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F8 operator-(F8 a, F8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F8 operator*(F8 a, F8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F8 operator/(F8 a, F8 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F8 fma(F8 a, F8 b, F8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// Of a NaN and a number these return the second argument.
inline F8 max(F8 a, F8 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F8 min(F8 a, F8 b) { return {_mm256_min_ps(a.v, b.v)}; }
// To the nearest whole number, ties to even.
inline F8 rounded(F8 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

inline float sum(F8 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline float first(F8 a) { return _mm256_cvtss_f32(a.v); }

// The largest lane.
inline float largest(F8 a) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// A bit for each lane where a >= b; none for NaN.
inline unsigned at_least(F8 a, F8 b) { return unsigned(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ))); }

// The sums of four vectors' lanes, each added up in the order of `sum`.
inline void sum4(F8 a, F8 b, F8 c, F8 d, float* out) {
  const auto halves = [](F8 x) { return _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1)); };
  const __m128 ha = halves(a), hb = halves(b), hc = halves(c), hd = halves(d);
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(ha, hb), _mm_unpackhi_ps(ha, hb));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(hc, hd), _mm_unpackhi_ps(hc, hd));
  _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
}

// x in lanes where a >= b or one of them is NaN, zero elsewhere.
inline F8 zero_below(F8 x, F8 a, F8 b) { return {_mm256_and_ps(x.v, _mm256_cmp_ps(a.v, b.v, _CMP_NLT_UQ))}; }

// 2^n, where the lowest bits of a float's representation hold n from -126 to 127.
inline F8 power_from_bits(F8 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_castps_si256(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
}

#else

struct F8 {
  Float4 v[2];
  static constexpr size_t kLanes = 8;
#if defined(APPORTION_NEON)
  static constexpr bool kSlowHalves = false;
#else
  static constexpr bool kSlowHalves = true;
#endif

  static F8 load(const float* p) { return {{load_quad<Float4>(p), load_quad<Float4>(p + 4)}}; }
  static F8 load_half(const uint16_t* p) { return {{load_halves4(p), load_halves4(p + 4)}}; }
  static F8 load_bf16(const uint16_t* p) {
    return {{(Float4)(load_words4(p) << 16), (Float4)(load_words4(p + 4) << 16)}};
  }
  static F8 load_bytes(const int8_t* p) { return {{floats4(load_bytes4(p)), floats4(load_bytes4(p + 4))}}; }
  // The lower halves of eight bytes, and the upper ones.
  static F8 load_lower(const uint8_t* p) { return {{floats4(load_bytes4(p) & 15), floats4(load_bytes4(p + 4) & 15)}}; }
  static F8 load_upper(const uint8_t* p) { return {{floats4(load_bytes4(p) >> 4), floats4(load_bytes4(p + 4) >> 4)}}; }
  static F8 all(float x) { return {{all4(x), all4(x)}}; }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  void store_half(uint16_t* p) const {
    store_halves4(p, v[0]);
    store_halves4(p + 4, v[1]);
  }
};

inline F8 operator+(F8 a, F8 b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1]}}; }
inline F8 operator-(F8 a, F8 b) { return {{a.v[0] - b.v[0], a.v[1] - b.v[1]}}; }
inline F8 operator*(F8 a, F8 b) { return {{a.v[0] * b.v[0], a.v[1] * b.v[1]}}; }
inline F8 operator/(F8 a, F8 b) { return {{a.v[0] / b.v[0], a.v[1] / b.v[1]}}; }
inline F8 fma(F8 a, F8 b, F8 c) { return {{fma4(a.v[0], b.v[0], c.v[0]), fma4(a.v[1], b.v[1], c.v[1])}}; }
inline F8 max(F8 a, F8 b) {
  return {{select4(a.v[0] > b.v[0], a.v[0], b.v[0]), select4(a.v[1] > b.v[1], a.v[1], b.v[1])}};
}
inline F8 min(F8 a, F8 b) {
  return {{select4(a.v[0] < b.v[0], a.v[0], b.v[0]), select4(a.v[1] < b.v[1], a.v[1], b.v[1])}};
}
inline F8 rounded(F8 a) { return {{rounded4(a.v[0]), rounded4(a.v[1])}}; }
inline float sum(F8 a) {
  const Float4 s = a.v[0] + a.v[1];
  return (s[0] + s[2]) + (s[1] + s[3]);
}
inline float first(F8 a) { return a.v[0][0]; }
inline float largest(F8 a) {
  const Float4 m = select4(a.v[0] > a.v[1], a.v[0], a.v[1]);
  return std::max(std::max(m[0], m[1]), std::max(m[2], m[3]));
}
inline unsigned at_least(F8 a, F8 b) {
  unsigned mask = 0;
  for (unsigned i = 0; i < 8; ++i) mask |= unsigned(a.v[i / 4][i % 4] >= b.v[i / 4][i % 4]) << i;
  return mask;
}
inline void sum4(F8 a, F8 b, F8 c, F8 d, float* out) {
  const Float4 sa = a.v[0] + a.v[1], sb = b.v[0] + b.v[1], sc = c.v[0] + c.v[1], sd = d.v[0] + d.v[1];
  const Float4 even = Float4{sa[0], sb[0], sc[0], sd[0]} + Float4{sa[2], sb[2], sc[2], sd[2]};
  const Float4 odd = Float4{sa[1], sb[1], sc[1], sd[1]} + Float4{sa[3], sb[3], sc[3], sd[3]};
  store_quad(out, even + odd);
}
inline F8 zero_below(F8 x, F8 a, F8 b) {
  const Float4 zero = all4(0.0f);
  return {{select4(a.v[0] < b.v[0], zero, x.v[0]), select4(a.v[1] < b.v[1], zero, x.v[1])}};
}
inline F8 power_from_bits(F8 n) {
  return {{(Float4)(((Uint4)n.v[0] + 127) << 23), (Float4)(((Uint4)n.v[1] + 127) << 23)}};
}

#endif

// Lanes 0 .. count - 1 of memory, the others zero.
inline F8 load_some(const float* p, size_t count) {
  float lanes[8] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return F8::load(lanes);
}
inline F8 load_bf16_some(const uint16_t* p, size_t count) {
  uint16_t lanes[8] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return F8::load_bf16(lanes);
}
inline F8 load_bytes_some(const int8_t* p, size_t count) {
  int8_t lanes[8] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return F8::load_bytes(lanes);
}
inline F8 load_half_some(const uint16_t* p, size_t count) {
  uint16_t lanes[8] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return F8::load_half(lanes);
}
inline void store_some(F8 v, float* p, size_t count) {
  float lanes[8];
  v.store(lanes);
  for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// e^x to about 1 ulp from -87.3 to 88.3; exactly 0 below, no larger above, NaN stays, and e^0 is exactly 1.
//
// x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to the whole number n, which then stands in the lowest
// bits of the sum. e^r = 1 + r + r^2 q(r), q fitted for the least relative error (3e-9).
template <class V>
V exp(V x) {
  const V shift = V::all(12582912.0f), bounded = min(V::all(88.3f), x);
  const V shifted = fma(bounded, V::all(1.44269504f), shift);
  const V n = shifted - shift;
  const V r = fma(n, V::all(2.12194440e-4f), fma(n, V::all(-0.693359375f), bounded));
  V q = fma(V::all(1.381453988e-3f), r, V::all(8.368745127e-3f));
  q = fma(q, r, V::all(4.166839079e-2f));
  q = fma(q, r, V::all(0.166665204f));
  q = fma(q, r, V::all(0.4999999343f));
  return zero_below(fma(q, r * r, r + V::all(1)) * power_from_bits(shifted), x, V::all(-87.3f));
}

inline F8 sigmoid(F8 x) { return F8::all(1) / (F8::all(1) + exp(F8::all(0) - x)); }
template <class V>
V tanh(V x) {
  return V::all(1) - V::all(2) / (exp(x + x) + V::all(1));
}

}  // namespace apportion::APPORTION_ISA
