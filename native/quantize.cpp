// Activations -> int8 codes per group of 32: x = scale * code, rounded to nearest, |code| <= 127. A group that holds
// NaN or infinity gets a NaN or infinite scale, so that it is seen in the result.
#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kTiny = 1e-30f;  // below, 127 / largest might overflow; the group counts as zero

// The largest magnitude; as integers, so that NaN is larger than everything.
float largest_magnitude(const float* x) {
  int32_t most = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return std::bit_cast<float>(most);
}

#if defined(APPORTION_AVX2)

void group_codes(const float* x, float inverse, int8_t* codes) {
  __m256i part[4];
  for (int i = 0; i < 4; ++i)
    part[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse)));
  const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(part[0], part[1]), _mm256_packs_epi32(part[2], part[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), _mm256_permutevar8x32_epi32(mixed, order));
}

int sum16(const int8_t* codes) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  // Of bytes with 128 added, less what was added.
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(v, _mm_set1_epi8(-128)), _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

void put_pairs(const int8_t* codes, int16_t* pairs) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int i = 0; i < 2; ++i) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes) + i);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs) + i, _mm256_cvtepi8_epi16(_mm_shuffle_epi8(v, order)));
  }
}

#else

void group_codes(const float* x, float inverse, int8_t* codes) {
  for (size_t i = 0; i < kGroup; ++i) {
    const float scaled = x[i] * inverse;
    // Written so that NaN, which no comparison holds for, becomes a number too.
    const float bounded = scaled > 127.0f ? 127.0f : (scaled >= -127.0f ? scaled : -127.0f);
    codes[i] = int8_t(std::nearbyint(bounded));
  }
}

int sum16(const int8_t* codes) {
  int sum = 0;
  for (int i = 0; i < 16; ++i) sum += codes[i];
  return sum;
}

void put_pairs(const int8_t* codes, int16_t* pairs) {
  for (size_t k = 0; k < kGroup; k += 4) {
    pairs[k] = codes[k];
    pairs[k + 1] = codes[k + 2];
    pairs[k + 2] = codes[k + 1];
    pairs[k + 3] = codes[k + 3];
  }
}

#endif

}  // namespace

void quantize(const float* x, size_t num_cols, Activations kind, void* codes, float* scales, float* sums) {
  int8_t here[kGroup];
  for (size_t group = 0; group < num_cols / kGroup; ++group, x += kGroup) {
    const float largest = largest_magnitude(x);
    const bool zero = largest < kTiny;
    int8_t* bytes = kind == Activations::pairs ? here : static_cast<int8_t*>(codes) + group * kGroup;
    group_codes(x, zero ? 0.0f : 127.0f / largest, bytes);
    scales[group] = zero ? 0.0f : largest / 127.0f;
    if (kind == Activations::pairs) {
      put_pairs(bytes, static_cast<int16_t*>(codes) + group * kGroup);
    } else if (kind == Activations::bytes16) {
      sums[2 * group] = scales[group] * float(sum16(bytes));
      sums[2 * group + 1] = scales[group] * float(sum16(bytes + 16));
    } else {
      sums[group] = scales[group] * float(sum16(bytes) + sum16(bytes + 16));
    }
  }
}

}  // namespace apportion::APPORTION_ISA
