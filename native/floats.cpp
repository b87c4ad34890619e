// Panels of numbers: f32, f16 and bf16 weights, codes expanded for exact products, and their products with float
// activations. Columns are added up in order, for any number of tokens.
#include <cstring>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

template <FormatId Id>
float read_number(const uint8_t* row, size_t col) {
  if constexpr (Id == FormatId::f32) {
    float value;
    std::memcpy(&value, row + 4 * col, 4);
    return value;
  } else {
    uint16_t bits;
    std::memcpy(&bits, row + 2 * col, 2);
    return Id == FormatId::f16 ? float_from_half(bits) : float_from_bf16(bits);
  }
}

template <FormatId Id>
void unpack_columns(const uint8_t* const* rows, size_t first, size_t begin, size_t end, FloatPanel& panel,
                    size_t half) {
  for (size_t col = begin; col < end; ++col)
    for (size_t row = 0; row < kHalfRows; ++row)
      panel.numbers[col][half * kHalfRows + row] = read_number<Id>(rows[row], first + col);
}

#if defined(APPORTION_AVX2)

template <FormatId Id>
__m256 load_numbers(const uint8_t* row, size_t col) {
  if constexpr (Id == FormatId::f32) return _mm256_loadu_ps(reinterpret_cast<const float*>(row + 4 * col));
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * col));
  if constexpr (Id == FormatId::f16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

void transpose8(__m256* v) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
  }
}

template <FormatId Id>
void unpack_numbers(const uint8_t* const* rows, size_t first, size_t count, FloatPanel& panel, size_t half) {
  size_t col = 0;
  for (; col + 8 <= count; col += 8) {
    __m256 v[8];
    for (int r = 0; r < 8; ++r) v[r] = load_numbers<Id>(rows[r], first + col);
    transpose8(v);
    for (size_t i = 0; i < 8; ++i) _mm256_store_ps(panel.numbers[col + i] + half * kHalfRows, v[i]);
  }
  unpack_columns<Id>(rows, first, col, count, panel, half);
}

// Codes k of 8 rows, k = 4j + i for the bytes, in the pairs' order otherwise.
__m256 codes_of(const Panel& panel, bool pairs, size_t group, size_t half, size_t k) {
  const size_t j = k / 4, i = k % 4;
  if (!pairs) {
    const __m256i v = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel.codes + (2 * group + half) * 256) + j);
    const __m256i moved = _mm256_srl_epi32(v, _mm_cvtsi32_si128(int(8 * i)));
    return _mm256_cvtepi32_ps(_mm256_and_si256(moved, _mm256_set1_epi32(255)));
  }
  const __m256i* place = reinterpret_cast<const __m256i*>(panel.codes + (2 * group + half) * 512) + 2 * j + i % 2;
  const __m256i v = _mm256_load_si256(place);
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(i < 2 ? _mm256_slli_epi32(v, 16) : v, 16));
}

F8 codes_at(const Panel& panel, bool pairs, size_t group, size_t half, size_t k) {
  return {codes_of(panel, pairs, group, half, k)};
}

F8 subs_at(const Panel& panel, size_t group, size_t run, size_t half) {
  const __m256i v = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel.subs[group][run][8 * half]));
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(v, 16))};
}

#else

template <FormatId Id>
void unpack_numbers(const uint8_t* const* rows, size_t first, size_t count, FloatPanel& panel, size_t half) {
  unpack_columns<Id>(rows, first, 0, count, panel, half);
}

F8 codes_at(const Panel& panel, bool pairs, size_t group, size_t half, size_t k) {
  F8 out;
  const size_t j = k / 4, i = k % 4;
  const uint8_t* bytes = panel.codes + (2 * group + half) * 256 + 32 * j + i;
  const int16_t* words = reinterpret_cast<const int16_t*>(panel.codes) + (2 * group + half) * 256 + 32 * j;
  for (size_t r = 0; r < kHalfRows; ++r)
    out.v[r] = pairs ? float(words[16 * (i % 2) + 2 * r + i / 2]) : float(bytes[4 * r]);
  return out;
}

F8 subs_at(const Panel& panel, size_t group, size_t run, size_t half) {
  F8 out;
  for (size_t r = 0; r < kHalfRows; ++r) out.v[r] = panel.subs[group][run][8 * half + r][0];
  return out;
}

#endif

template <int NumTokens>
void dot_numbers(const FloatPanel& panel, const Token* tokens, size_t first, size_t count, float* out) {
  F8 sums[NumTokens][2];
  const float* x[NumTokens];
  for (int t = 0; t < NumTokens; ++t) {
    x[t] = static_cast<const float*>(tokens[t].codes) + first;
    for (int h = 0; h < 2; ++h) sums[t][h] = F8::load(out + t * int(kPanelRows) + 8 * h);
  }
  for (size_t k = 0; k < count; ++k) {
    const F8 w0 = F8::load(panel.numbers[k]), w1 = F8::load(panel.numbers[k] + 8);
    for (int t = 0; t < NumTokens; ++t) {
      const F8 each = F8::all(x[t][k]);
      sums[t][0] = fma(w0, each, sums[t][0]);
      sums[t][1] = fma(w1, each, sums[t][1]);
    }
  }
  for (int t = 0; t < NumTokens; ++t)
    for (int h = 0; h < 2; ++h) sums[t][h].store(out + t * int(kPanelRows) + 8 * h);
}

}  // namespace

UnpackFloats unpack_floats(FormatId format) {
  switch (format) {
    case FormatId::f32: return unpack_numbers<FormatId::f32>;
    case FormatId::f16: return unpack_numbers<FormatId::f16>;
    case FormatId::bf16: return unpack_numbers<FormatId::bf16>;
    default: return nullptr;
  }
}

void expand(const Panel& panel, Arithmetic arithmetic, size_t first, size_t count, FloatPanel& out) {
  const bool pairs = arithmetic == Arithmetic::signed8;
  const bool runs = arithmetic == Arithmetic::unsigned3 || arithmetic == Arithmetic::unsigned6;
  for (size_t g = first; g < first + count; ++g) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t run = 0; run < 2; ++run) {
        F8 scale = F8::load(panel.scales[g] + 8 * half);
        if (runs) scale = scale * subs_at(panel, g, run, half);
        const F8 min = pairs ? F8::all(0) : F8::load(panel.mins[g][runs ? run : 0] + 8 * half);
        for (size_t k = 16 * run; k < 16 * run + 16; ++k)
          fma(scale, codes_at(panel, pairs, g, half, k), min).store(out.numbers[(g - first) * kGroup + k] + 8 * half);
      }
    }
  }
}

void dot_floats(const FloatPanel& panel, const Token* tokens, size_t num_tokens, size_t first, size_t count,
                float* sums) {
  for (; num_tokens >= 4; num_tokens -= 4, tokens += 4, sums += 4 * kPanelRows)
    dot_numbers<4>(panel, tokens, first, count, sums);
  if (num_tokens == 3) dot_numbers<3>(panel, tokens, first, count, sums);
  if (num_tokens == 2) dot_numbers<2>(panel, tokens, first, count, sums);
  if (num_tokens == 1) dot_numbers<1>(panel, tokens, first, count, sums);
}

}  // namespace apportion::APPORTION_ISA
