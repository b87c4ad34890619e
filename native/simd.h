// Eight floats as one value, for the instruction set that the file is compiled for. APPORTION_ISA names the namespace:
// each set has its own copy, so that the linker can never mix them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "half.h"

#if defined(APPORTION_AVX2)
#include <immintrin.h>
#endif

namespace apportion::APPORTION_ISA {

#if defined(APPORTION_AVX2)

struct F8 {
  __m256 v;

  static F8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F8 load_half(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
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

inline float sum(F8 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// e^x to about 1 ulp (Cephes); exactly 0 below -87.3, NaN stays.
inline F8 exp(F8 x) {
  const __m256 keep = _mm256_cmp_ps(x.v, _mm256_set1_ps(-87.3f), _CMP_NLT_UQ);
  const F8 bounded = min(F8::all(88.7f), max(F8::all(-87.3f), x));
  const F8 n = {_mm256_round_ps((bounded * F8::all(1.44269504f)).v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  F8 r = fma(n, F8::all(-0.693359375f), bounded);
  r = fma(n, F8::all(2.12194440e-4f), r);
  F8 p = fma(F8::all(1.9875691500e-4f), r, F8::all(1.3981999507e-3f));
  p = fma(p, r, F8::all(8.3334519073e-3f));
  p = fma(p, r, F8::all(4.1665795894e-2f));
  p = fma(p, r, F8::all(1.6666665459e-1f));
  p = fma(p, r, F8::all(5.0000001201e-1f));
  p = fma(p * r, r, r + F8::all(1.0f));
  // 2^n in two factors: n may be 128.
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const auto power = [](__m256i e) {
    return F8{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23))};
  };
  p = p * power(half) * power(_mm256_sub_epi32(whole, half));
  return {_mm256_and_ps(p.v, keep)};
}

#else

struct F8 {
  float v[8];

  static F8 load(const float* p) {
    F8 r;
    for (int i = 0; i < 8; ++i) r.v[i] = p[i];
    return r;
  }
  static F8 load_half(const uint16_t* p) {
    F8 r;
    for (int i = 0; i < 8; ++i) r.v[i] = float_from_half(p[i]);
    return r;
  }
  static F8 all(float x) { return {{x, x, x, x, x, x, x, x}}; }
  void store(float* p) const {
    for (int i = 0; i < 8; ++i) p[i] = v[i];
  }
  void store_half(uint16_t* p) const {
    for (int i = 0; i < 8; ++i) p[i] = half_from_float(v[i]);
  }
};

template <class Lane>
inline F8 each(Lane lane) {
  F8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = lane(i);
  return r;
}

inline F8 operator+(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline F8 operator-(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline F8 operator*(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline F8 operator/(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline F8 fma(F8 a, F8 b, F8 c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline F8 max(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline F8 min(F8 a, F8 b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline float sum(F8 a) { return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7])); }
inline F8 exp(F8 x) {
  return each([&](int i) { return x.v[i] < -87.3f ? 0.0f : std::exp(x.v[i]); });
}

#endif

inline F8 sigmoid(F8 x) { return F8::all(1) / (F8::all(1) + exp(F8::all(0) - x)); }
inline F8 tanh(F8 x) { return F8::all(1) - F8::all(2) / (exp(x + x) + F8::all(1)); }

}  // namespace apportion::APPORTION_ISA
