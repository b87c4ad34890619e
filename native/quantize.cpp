// Activations -> integer codes per group of 32: x = scale * code, rounded to nearest. Beside bytes a token's largest
// number may stay a float. A group that holds NaN or infinity gets a NaN or infinite scale, so that it is seen in the
// result; so is an outlier that is either.
#include <algorithm>
#include <iterator>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kTiny = 1e-30f;  // below, levels / largest might overflow; the group counts as zero

constexpr float kByteLevels = 127.0f;
// Before rounding, the mean of half a group's codes: their products with weights of 6 bits then add up to words of 16
// bits, at most 32 * 16 * (63 + 0.5) = 32,512. Few groups are so flat that they would have more.
constexpr float kMeanLevel = 63;
// PairCodes are multiplied as int16 whatever they hold, so they hold more: 32 products with 8-bit codes still stay
// within the 24 bits that a float keeps.
constexpr float kPairLevels = 4095.0f;

// As an integer, so that NaN is larger than everything.
int32_t magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }

int32_t largest_magnitude(const float* x) {
  int32_t most = 0;
  for (size_t i = 0; i < kGroup; ++i) most = std::max(most, magnitude(x[i]));
  return most;
}

float mean_magnitude_of_16(const float* x) {
  float sums[4] = {};
  for (size_t i = 0; i < 16; ++i) sums[i % 4] += std::bit_cast<float>(magnitude(x[i])) / 16;
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The first of the numbers with the largest magnitude.
Outlier find_outlier(const float* x, size_t num_cols) {
  size_t column = 0;
  int32_t most = 0;
  for (size_t first = 0; first < num_cols; first += kGroup)
    if (const int32_t own = largest_magnitude(x + first); own > most) most = own, column = first;
  while (magnitude(x[column]) != most) ++column;
  return {column, std::bit_cast<float>(most) < kTiny ? 0.0f : x[column]};
}

#if defined(APPORTION_AVX2)

// Codes 0..15 and 16..31 as int16.
void group_codes(const float* x, float inverse, __m256i* codes) {
  for (int i = 0; i < 2; ++i) {
    const __m256 factor = _mm256_set1_ps(inverse);
    const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * i), factor));
    const __m256i second = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * i + 8), factor));
    codes[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), _MM_SHUFFLE(3, 1, 2, 0));
  }
}

void put_bytes(const float* x, float inverse, int8_t* out) {
  __m256i codes[2];
  group_codes(x, inverse, codes);
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(codes[0], codes[1]), _MM_SHUFFLE(3, 1, 2, 0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

void put_pairs(const float* x, float inverse, int16_t* out) {
  __m256i codes[2];
  group_codes(x, inverse, codes);
  for (int i = 0; i < 2; ++i) {
    constexpr int kOrder = _MM_SHUFFLE(3, 1, 2, 0);
    const __m256i pairs = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(codes[i], kOrder), kOrder);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + i, pairs);
  }
}

int sum16(const int8_t* codes) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  // Of bytes with 128 added, less what was added.
  const __m128i sums = _mm_sad_epu8(_mm_xor_si128(v, _mm_set1_epi8(-128)), _mm_setzero_si128());
  return _mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4) - 16 * 128;
}

#else

template <typename Code>
Code code_of(float x, float inverse, float levels) {
  const float scaled = x * inverse;
  // Written so that NaN, which no comparison holds for, becomes a number too.
  const float bounded = scaled > levels ? levels : (scaled >= -levels ? scaled : -levels);
  // Adding 1.5 * 2^23 rounds to the nearest whole number, ties to even; as conversions of vectors do.
  constexpr float kShift = 12582912.0f;
  return Code((bounded + kShift) - kShift);
}

void put_bytes(const float* x, float inverse, int8_t* out) {
  for (size_t i = 0; i < kGroup; ++i) out[i] = code_of<int8_t>(x[i], inverse, kByteLevels);
}

void put_pairs(const float* x, float inverse, int16_t* out) {
  constexpr size_t kOrder[4] = {0, 2, 1, 3};
  for (size_t i = 0; i < kGroup; ++i) out[i] = code_of<int16_t>(x[i / 4 * 4 + kOrder[i % 4]], inverse, kPairLevels);
}

int sum16(const int8_t* codes) {
  int sum = 0;
  for (int i = 0; i < 16; ++i) sum += codes[i];
  return sum;
}

#endif

// 1 / scale for codes up to `levels`, and the scale.
struct Scales {
  float inverse, scale;

  Scales(const float* x, float levels) : Scales(std::bit_cast<float>(largest_magnitude(x)), levels) {}
  // Nor is the mean of a half's codes above mean_level.
  Scales(const float* x, float levels, float mean_level) : Scales(x, levels) {
    const float mean = std::max(mean_magnitude_of_16(x), mean_magnitude_of_16(x + 16));
    if (mean * inverse > mean_level) *this = Scales(mean, mean_level);
  }

 private:
  Scales(float largest, float levels) {
    const bool zero = largest < kTiny;
    inverse = zero ? 0.0f : levels / largest;
    scale = zero ? 0.0f : largest / levels;
  }
};

void put_group(const float* x, PairCodes& out) {
  const Scales scales(x, kPairLevels);
  put_pairs(x, scales.inverse, out.codes);
  out.scale = scales.scale;
}

// With codes p of pairs and q = 8 (u - 16) + l of weights, where l is 0 .. 7: the sum of q * p is at most
// 8 * (the sum of u * p + above). Scales differ by a power of two, so that both round alike.
void put_group(const float* x, RaisedCodes& out) {
  constexpr size_t kOrder[4] = {0, 2, 1, 3};
  PairCodes pairs;
  put_group(x, pairs);
  int32_t sum = 0, positive = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    const int32_t code = pairs.codes[i], coarse = (code + 32) >> 6;
    out.codes[i / 4 * 4 + kOrder[i % 4]] = int8_t(coarse);
    out.fine[i / 4 * 4 + kOrder[i % 4]] = int8_t(code - 64 * coarse);
    sum += code;
    positive += std::max(code, 0);
  }
  out.scale = 8 * pairs.scale;
  out.above = (7 * positive + 7) / 8 - 16 * sum;
}

void put_group(const float* x, ByteCodes32& out) {
  const Scales scales(x, kByteLevels);
  put_bytes(x, scales.inverse, out.codes);
  out.scale = scales.scale;
  out.sums[0] = sum16(out.codes) + sum16(out.codes + 16);
}

void put_group(const float* x, ByteCodes16& out) {
  const Scales scales(x, kByteLevels, kMeanLevel);
  put_bytes(x, scales.inverse, out.codes);
  out.scale = scales.scale;
  for (int half = 0; half < 2; ++half) out.sums[half] = int16_t(sum16(out.codes + 16 * half));
}

template <class Group>
Outlier put_groups(const float* x, size_t num_cols, const Outlier& outlier, void* out_) {
  Group* out = static_cast<Group*>(out_);
  for (size_t group = 0; group < num_cols / kGroup; ++group, x += kGroup)
    if (group == outlier.column / kGroup) {
      float others[kGroup];
      std::copy_n(x, kGroup, others);
      others[outlier.column % kGroup] = 0;
      put_group(others, out[group]);
    } else {
      put_group(x, out[group]);
    }
  return outlier;
}

}  // namespace

Outlier quantize(const float* x, size_t num_cols, Activations kind, bool apart, void* groups) {
  if (kind == Activations::pairs) return put_groups<PairCodes>(x, num_cols, {}, groups);
  if (kind == Activations::raised) return put_groups<RaisedCodes>(x, num_cols, {}, groups);
  const Outlier outlier = apart ? find_outlier(x, num_cols) : Outlier{};
  if (kind == Activations::bytes16) return put_groups<ByteCodes16>(x, num_cols, outlier, groups);
  return put_groups<ByteCodes32>(x, num_cols, outlier, groups);
}

}  // namespace apportion::APPORTION_ISA
