// As many multiply-adds as registers allow: what a product's speed is a share of.
//
// Each round feeds several sums that do not wait for each other, with the instructions that the products use:
//
//            int8                              f32              bf16
//   avx2     vpmaddubsw, vpmaddwd, vpaddd      vfmadd           as f32: widening is a shift
//   avx512   vpdpbusd                          vfmadd           vdpbf16ps, where there is one
#include "isa.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace apportion::APPORTION_ISA {

namespace {

constexpr size_t kChains = 10;    // more than a multiply-add's latency times two a cycle
constexpr size_t kAddChains = 6;  // where only an addition waits for the last one: leaves registers for the products

// Makes the compiler believe that x was read and changed, so that no round is left out or merged with another.
template <class Vector>
inline void touch([[maybe_unused]] Vector& x) {
#if defined(__AVX512F__)
  asm volatile("" : "+v"(x));
#elif defined(__AVX2__)
  asm volatile("" : "+x"(x));
#elif defined(__GNUC__)
  asm volatile("" : "+m"(x));
#endif
}

// Runs the step on every chain, round after round.
template <size_t NumChains, class Vector, class Step>
void run_chains(size_t rounds, Vector one, Step step) {
  Vector sums[NumChains] = {};
  for (; rounds; --rounds) {
#pragma GCC unroll 10
    for (size_t i = 0; i < NumChains; ++i) {
      touch(one);
      sums[i] = step(sums[i], one);
    }
  }
  for (Vector& sum : sums) touch(sum);
}

}  // namespace

#if defined(__AVX512VNNI__)

uint64_t multiply_adds(PeakKind kind, size_t rounds) {
  constexpr uint64_t kLanes = 16;
  if (kind == PeakKind::int8) {
    const __m512i codes = _mm512_set1_epi8(3);
    run_chains<kChains>(rounds, codes, [&](__m512i sum, __m512i x) { return _mm512_dpbusd_epi32(sum, x, codes); });
    return 4 * kLanes * kChains * rounds;
  }
#if defined(__AVX512BF16__)
  if (kind == PeakKind::bf16) {
    const __m512bh x = __m512bh(_mm512_set1_epi16(0x3f00));  // 0.5
    run_chains<kChains>(rounds, _mm512_set1_ps(0.5f), [&](__m512 sum, __m512 one) {
      return _mm512_dpbf16_ps(sum, x, __m512bh(_mm512_castps_si512(one)));
    });
    return 2 * kLanes * kChains * rounds;
  }
#endif
  const __m512 half = _mm512_set1_ps(0.5f);
  run_chains<kChains>(rounds, half, [&](__m512 sum, __m512 x) { return _mm512_fmadd_ps(x, half, sum); });
  return kLanes * kChains * rounds;
}

#elif defined(__AVX2__)

uint64_t multiply_adds(PeakKind kind, size_t rounds) {
  if (kind == PeakKind::int8) {
    const __m256i codes = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    run_chains<kAddChains>(rounds, codes, [&](__m256i sum, __m256i x) {
      return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, codes), ones));
    });
    return 32 * kAddChains * rounds;
  }
  const __m256 half = _mm256_set1_ps(0.5f);
  run_chains<kChains>(rounds, half, [&](__m256 sum, __m256 x) { return _mm256_fmadd_ps(x, half, sum); });
  return 8 * kChains * rounds;
}

#else

// What the compiler makes of plain loops.
template <class Number>
struct Lanes {
  Number lane[8];
};

template <class Number>
Lanes<Number> multiply_add(const Lanes<Number>& sum, const Lanes<Number>& x) {
  Lanes<Number> next;
  for (size_t i = 0; i < 8; ++i) next.lane[i] = sum.lane[i] + x.lane[i] * Number(3);
  return next;
}

uint64_t multiply_adds(PeakKind kind, size_t rounds) {
  if (kind == PeakKind::int8)
    run_chains<kChains>(rounds, Lanes<uint32_t>{{1, 2, 3, 4, 5, 6, 7, 8}}, multiply_add<uint32_t>);
  else
    run_chains<kChains>(rounds, Lanes<float>{{1, 2, 3, 4, 5, 6, 7, 8}}, multiply_add<float>);
  return 8 * kChains * rounds;
}

#endif

}  // namespace apportion::APPORTION_ISA
