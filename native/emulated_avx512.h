// AVX-512 for processors without it, to test with: SIMDe's emulation, and the few instructions that it lacks.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_NO_INLINE  // or compiling takes minutes
#include <immintrin.h>
#include <simde/x86/avx512.h>

#include <bit>

#include "half.h"

namespace apportion::APPORTION_ISA {

// 16 lanes, lane i being lane(from[i]).
template <class To, class Number, class From, class Lane>
APPORTION_INLINE To emulated(const From& from, Lane lane) {
  Number numbers[sizeof(From) / sizeof(Number)];
  std::memcpy(numbers, &from, sizeof from);
  decltype(lane(numbers[0])) lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = lane(numbers[i]);
  To to;
  static_assert(sizeof to == sizeof lanes);
  std::memcpy(&to, lanes, sizeof to);
  return to;
}

APPORTION_INLINE __m512i emulated_srai_epi32(const __m512i& a, int count) {
  return emulated<__m512i, int32_t>(a, [=](int32_t x) { return x >> count; });
}
APPORTION_INLINE __m512i emulated_cvtepu8_epi32(const __m128i& a) {
  return emulated<__m512i, uint8_t>(a, [](uint8_t x) { return int32_t(x); });
}
APPORTION_INLINE __m512i emulated_cvtepu16_epi32(const __m256i& a) {
  return emulated<__m512i, uint16_t>(a, [](uint16_t x) { return int32_t(x); });
}
APPORTION_INLINE __m512 emulated_cvtepi32_ps(const __m512i& a) {
  return emulated<__m512, int32_t>(a, [](int32_t x) { return float(x); });
}
APPORTION_INLINE __m512 emulated_cvtph_ps(const __m256i& a) { return emulated<__m512, uint16_t>(a, float_from_half); }
APPORTION_INLINE __m512i emulated_madd_epi16(const __m512i& a, const __m512i& b) {
  return _mm512_dpwssd_epi32(_mm512_setzero_si512(), a, b);
}

}  // namespace apportion::APPORTION_ISA

#undef _mm512_madd_epi16  // wants more arguments than there are
#define _mm512_madd_epi16 emulated_madd_epi16
#define _mm512_srai_epi32 emulated_srai_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
