// A panel of codes times the codes of up to four tokens at a time: exact integer sums within each group of 32, then
// float sums over the groups in order. The order is the same for any number of tokens.
#include <cstring>

#include "isa.h"
#if defined(APPORTION_AVX2)
#include <immintrin.h>
#endif

namespace apportion::APPORTION_ISA {

namespace {

#if defined(APPORTION_AVX2)

__m256i four_codes(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

__m256i load(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }

// Keeps a running sum where it stands. Without it GCC computes all products first, spills them, and adds them later.
void pin(__m256i& sum) { asm volatile("" : "+x"(sum)); }

// The group's part of the float sums: sums += scales * (x scale * total) + mins * x sums.
template <int Mins>
void add_group(const Panel& panel, size_t group, const Token& token, size_t place, const __m256i* total, __m256* sums) {
  const __m256 x_scale = _mm256_broadcast_ss(token.scales + place);
  for (size_t h = 0; h < 2; ++h) {
    const __m256 part = _mm256_mul_ps(_mm256_cvtepi32_ps(total[h]), x_scale);
    sums[h] = _mm256_fmadd_ps(part, _mm256_load_ps(panel.scales[group] + 8 * h), sums[h]);
    for (size_t r = 0; r < Mins; ++r)
      sums[h] = _mm256_fmadd_ps(_mm256_load_ps(panel.mins[group][r] + 8 * h),
                                _mm256_broadcast_ss(token.sums + place * Mins + r), sums[h]);
  }
}

// Unsigned codes times int8: `Adds` products fit into 16 bits before they are widened.
template <int NumTokens, int Adds, bool Sub>
void dot_unsigned(const Panel& panel, const Token* tokens, size_t first, size_t count, float* out) {
  __m256 sums[NumTokens][2];
  const int8_t* x[NumTokens];
  for (int t = 0; t < NumTokens; ++t) {
    x[t] = static_cast<const int8_t*>(tokens[t].codes) + first * kGroup;
    for (int h = 0; h < 2; ++h) sums[t][h] = _mm256_loadu_ps(out + t * kPanelRows + 8 * h);
  }
  const uint8_t* codes = panel.codes;
  for (size_t g = 0; g < count; ++g, codes += 512) {
    __m256i total[NumTokens][2];
#pragma GCC unroll 8
    for (int run = 0; run < 8 / Adds; ++run) {
      __m256i part[NumTokens][2];
#pragma GCC unroll 8
      for (int i = 0; i < Adds; ++i) {
        const int j = run * Adds + i;
        const __m256i w0 = load(codes + 32 * j), w1 = load(codes + 256 + 32 * j);
#pragma GCC unroll 4
        for (int t = 0; t < NumTokens; ++t) {
          const __m256i four = four_codes(x[t] + 4 * j);
          const __m256i p0 = _mm256_maddubs_epi16(w0, four), p1 = _mm256_maddubs_epi16(w1, four);
          part[t][0] = i ? _mm256_add_epi16(part[t][0], p0) : p0;
          part[t][1] = i ? _mm256_add_epi16(part[t][1], p1) : p1;
          pin(part[t][0]);
          pin(part[t][1]);
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < NumTokens; ++t) {
        for (int h = 0; h < 2; ++h) {
          const __m256i factor = Sub ? load(panel.subs[g][run * Adds / 4][8 * h]) : _mm256_set1_epi16(1);
          const __m256i wide = _mm256_madd_epi16(part[t][h], factor);
          total[t][h] = run ? _mm256_add_epi32(total[t][h], wide) : wide;
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < NumTokens; ++t) {
      add_group<Sub ? 2 : 1>(panel, g, tokens[t], first + g, total[t], sums[t]);
      x[t] += kGroup;
    }
  }
  for (int t = 0; t < NumTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out + t * kPanelRows + 8 * h, sums[t][h]);
}

// Signed codes as int16 pairs.
template <int NumTokens>
void dot_signed(const Panel& panel, const Token* tokens, size_t first, size_t count, float* out) {
  __m256 sums[NumTokens][2];
  const int16_t* x[NumTokens];
  for (int t = 0; t < NumTokens; ++t) {
    x[t] = static_cast<const int16_t*>(tokens[t].codes) + first * kGroup;
    for (int h = 0; h < 2; ++h) sums[t][h] = _mm256_loadu_ps(out + t * kPanelRows + 8 * h);
  }
  const uint8_t* codes = panel.codes;
  for (size_t g = 0; g < count; ++g, codes += 1024) {
    __m256i total[NumTokens][2];
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      const __m256i w0 = load(codes + 32 * j), w1 = load(codes + 512 + 32 * j);
#pragma GCC unroll 4
      for (int t = 0; t < NumTokens; ++t) {
        const __m256i two = four_codes(reinterpret_cast<const int8_t*>(x[t] + 2 * j));
        const __m256i p0 = _mm256_madd_epi16(w0, two), p1 = _mm256_madd_epi16(w1, two);
        total[t][0] = j ? _mm256_add_epi32(total[t][0], p0) : p0;
        total[t][1] = j ? _mm256_add_epi32(total[t][1], p1) : p1;
        pin(total[t][0]);
        pin(total[t][1]);
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < NumTokens; ++t) {
      add_group<0>(panel, g, tokens[t], first + g, total[t], sums[t]);
      x[t] += kGroup;
    }
  }
  for (int t = 0; t < NumTokens; ++t)
    for (int h = 0; h < 2; ++h) _mm256_storeu_ps(out + t * kPanelRows + 8 * h, sums[t][h]);
}

#else

void add_group(const Panel& panel, size_t group, const Token& token, size_t place, size_t num_mins,
               const int32_t* total, float* sums) {
  for (size_t r = 0; r < kPanelRows; ++r) {
    sums[r] += float(total[r]) * token.scales[place] * panel.scales[group][r];
    for (size_t m = 0; m < num_mins; ++m) sums[r] += panel.mins[group][m][r] * token.sums[place * num_mins + m];
  }
}

// A half's codes [vectors][rows][4 k] times 4 k of the token each.
void add_vectors(const uint8_t* codes, const int8_t* x, size_t num_vectors, int32_t* total) {
  for (size_t j = 0; j < num_vectors; ++j)
    for (size_t r = 0; r < kHalfRows; ++r)
      for (size_t i = 0; i < 4; ++i) total[r] += codes[32 * j + 4 * r + i] * x[4 * j + i];
}

template <int NumTokens, int Adds, bool Sub>
void dot_unsigned(const Panel& panel, const Token* tokens, size_t first, size_t count, float* out) {
  for (int t = 0; t < NumTokens; ++t) {
    const int8_t* x = static_cast<const int8_t*>(tokens[t].codes) + first * kGroup;
    for (size_t g = 0; g < count; ++g, x += kGroup) {
      int32_t total[kPanelRows] = {};
      for (size_t half = 0; half < 2; ++half) {
        const uint8_t* codes = panel.codes + (2 * g + half) * 256;
        int32_t* rows = total + 8 * half;
        if constexpr (Sub) {
          for (size_t run = 0; run < 2; ++run) {
            int32_t part[kHalfRows] = {};
            add_vectors(codes + 128 * run, x + 16 * run, 4, part);
            for (size_t r = 0; r < kHalfRows; ++r) rows[r] += part[r] * panel.subs[g][run][8 * half + r][0];
          }
        } else {
          add_vectors(codes, x, 8, rows);
        }
      }
      add_group(panel, g, tokens[t], first + g, Sub ? 2 : 1, total, out + size_t(t) * kPanelRows);
    }
  }
}

template <int NumTokens>
void dot_signed(const Panel& panel, const Token* tokens, size_t first, size_t count, float* out) {
  const int16_t* codes = reinterpret_cast<const int16_t*>(panel.codes);
  for (int t = 0; t < NumTokens; ++t) {
    const int16_t* x = static_cast<const int16_t*>(tokens[t].codes) + first * kGroup;
    for (size_t g = 0; g < count; ++g, x += kGroup) {
      int32_t total[kPanelRows] = {};
      for (size_t half = 0; half < 2; ++half)
        for (size_t j = 0; j < 16; ++j)
          for (size_t r = 0; r < kHalfRows; ++r)
            for (size_t i = 0; i < 2; ++i)
              total[8 * half + r] += codes[(2 * g + half) * 256 + 16 * j + 2 * r + i] * x[2 * j + i];
      add_group(panel, g, tokens[t], first + g, 0, total, out + size_t(t) * kPanelRows);
    }
  }
}

#endif

template <int NumTokens>
void dot_tokens(const Panel& panel, Arithmetic arithmetic, const Token* tokens, size_t first, size_t count,
                float* sums) {
  switch (arithmetic) {
    case Arithmetic::unsigned4: return dot_unsigned<NumTokens, 8, false>(panel, tokens, first, count, sums);
    case Arithmetic::unsigned5: return dot_unsigned<NumTokens, 4, false>(panel, tokens, first, count, sums);
    case Arithmetic::unsigned3: return dot_unsigned<NumTokens, 4, true>(panel, tokens, first, count, sums);
    case Arithmetic::unsigned6: return dot_unsigned<NumTokens, 2, true>(panel, tokens, first, count, sums);
    case Arithmetic::signed8: return dot_signed<NumTokens>(panel, tokens, first, count, sums);
    case Arithmetic::floats: break;
  }
}

}  // namespace

void dot(const Panel& panel, Arithmetic arithmetic, const Token* tokens, size_t num_tokens, size_t first, size_t count,
         float* sums) {
  for (; num_tokens >= 4; num_tokens -= 4, tokens += 4, sums += 4 * kPanelRows)
    dot_tokens<4>(panel, arithmetic, tokens, first, count, sums);
  if (num_tokens == 3) dot_tokens<3>(panel, arithmetic, tokens, first, count, sums);
  if (num_tokens == 2) dot_tokens<2>(panel, arithmetic, tokens, first, count, sums);
  if (num_tokens == 1) dot_tokens<1>(panel, arithmetic, tokens, first, count, sums);
}

}  // namespace apportion::APPORTION_ISA
