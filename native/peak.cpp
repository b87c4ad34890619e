// As many multiply-adds as registers allow: what a product's speed is a share of.
//
// Each round feeds several sums that do not wait for each other, with the instructions that the products use:
//
//            int8                           int16                  f32          bf16
//   avx2     vpmaddubsw, vpmaddwd, vpaddd   vpmaddwd, vpaddd       vfmadd       as f32: widening is a shift
//   avx512   vpdpbusd                       vpdpwssd               vfmadd       vdpbf16ps, where there is one
//   neon     smlal, or sdot                 smlal                  fmla         as f32
//   others   as int16                       pmaddwd, or mul, add   mul, add     as f32
#include "isa.h"
#if defined(__AVX2__)
#include <immintrin.h>
#else
#include "quads.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
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
#elif defined(__SSE2__)
  asm volatile("" : "+x"(x));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(x));
#else
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
  if (kind == PeakKind::int16) {
    const __m512i codes = _mm512_set1_epi16(3);
    run_chains<kChains>(rounds, codes, [&](__m512i sum, __m512i x) { return _mm512_dpwssd_epi32(sum, x, codes); });
    return 2 * kLanes * kChains * rounds;
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
  if (kind == PeakKind::int16) {
    const __m256i codes = _mm256_set1_epi16(3);
    run_chains<kAddChains>(rounds, codes,
                           [&](__m256i sum, __m256i x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, codes)); });
    return 16 * kAddChains * rounds;
  }
  const __m256 half = _mm256_set1_ps(0.5f);
  run_chains<kChains>(rounds, half, [&](__m256 sum, __m256 x) { return _mm256_fmadd_ps(x, half, sum); });
  return 8 * kChains * rounds;
}

#else

// Products of one instruction, or of the few that stand for it, with 16-bit numbers.
#if defined(APPORTION_NEON)
constexpr uint64_t kWordProducts = 4;
Int4 add_words(Int4 sum, Int4 x) {
  const int16x4_t words = vget_low_s16((int16x8_t)x);
  return (Int4)vmlal_s16((int32x4_t)sum, words, words);
}
#elif defined(__SSE2__)
constexpr uint64_t kWordProducts = 8;
Int4 add_words(Int4 sum, Int4 x) { return sum + (Int4)_mm_madd_epi16((__m128i)x, (__m128i)x); }
#else
constexpr uint64_t kWordProducts = 4;
Int4 add_words(Int4 sum, Int4 x) { return sum + x * x; }
#endif

// And with 8-bit numbers, in whatever width they are multiplied.
#if defined(__ARM_FEATURE_DOTPROD)
constexpr uint64_t kByteProducts = 16;
Int4 add_bytes(Int4 sum, Int4 x) { return (Int4)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)x); }
#elif defined(APPORTION_NEON)
constexpr uint64_t kByteProducts = 8;
Int4 add_bytes(Int4 sum, Int4 x) {
  const int8x8_t bytes = vget_low_s8((int8x16_t)x);
  return (Int4)vmlal_s8((int16x8_t)sum, bytes, bytes);
}
#else
constexpr uint64_t kByteProducts = kWordProducts;
constexpr auto add_bytes = add_words;
#endif

uint64_t multiply_adds(PeakKind kind, size_t rounds) {
  if (kind == PeakKind::int8) {
    run_chains<kAddChains>(rounds, all4(3), add_bytes);
    return kByteProducts * kAddChains * rounds;
  }
  if (kind == PeakKind::int16) {
    run_chains<kAddChains>(rounds, all4(3), add_words);
    return kWordProducts * kAddChains * rounds;
  }
  run_chains<kChains>(rounds, all4(0.5f), [](Float4 sum, Float4 x) { return fma4(x, all4(0.5f), sum); });
  return 4 * kChains * rounds;
}

#endif

}  // namespace apportion::APPORTION_ISA
