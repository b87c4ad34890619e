// Reading as fast as memory allows: what a stream's bandwidth is measured with.
#include <cstring>

#include "isa.h"
#if defined(APPORTION_AVX2)
#include <immintrin.h>
#endif

namespace apportion::APPORTION_ISA {

#if defined(APPORTION_AVX2)

// Eight independent sums, so that only memory is waited for.
uint64_t sum_words(const unsigned char* p, size_t nbytes) {
  constexpr size_t kSums = 8;
  __m256i sums[kSums] = {};
  for (; nbytes >= 32 * kSums; nbytes -= 32 * kSums, p += 32 * kSums) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kSums; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(p + 4096 + 32 * i), _MM_HINT_T0);
      sums[i] = _mm256_add_epi64(sums[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p) + i));
    }
  }
  for (size_t i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi64(sums[0], sums[i]);
  uint64_t words[4];
  std::memcpy(words, &sums[0], sizeof words);
  return words[0] + words[1] + words[2] + words[3];
}

#else

uint64_t sum_words(const unsigned char* p, size_t nbytes) {
  constexpr size_t kSums = 8;
  uint64_t sums[kSums] = {};
  for (; nbytes >= 8 * kSums; nbytes -= 8 * kSums, p += 8 * kSums) {
    uint64_t words[kSums];
    std::memcpy(words, p, sizeof words);
    for (size_t i = 0; i < kSums; ++i) sums[i] += words[i];
  }
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

#endif

}  // namespace apportion::APPORTION_ISA
