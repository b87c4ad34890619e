// Reading as fast as memory allows: what a stream's bandwidth is measured with.
//
// A run is read as kStreams runs side by side: the processor's own prefetcher follows each of them, and together
// they keep more lines on their way than one would. Prefetch instructions only slow this down.
#include <cstring>

#include "isa.h"
#if defined(APPORTION_AVX2)
#include <immintrin.h>
#endif

namespace apportion::APPORTION_ISA {

namespace {

constexpr size_t kStreams = 4;
constexpr size_t kStepBytes = 128;  // of each stream in turn: two cache lines

#if defined(APPORTION_AVX2)

using Sum = __m256i;
Sum add(Sum sum, const unsigned char* p) {
  return _mm256_add_epi64(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

#else

using Sum = uint64_t;
Sum add(Sum sum, const unsigned char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return sum + word;
}

#endif

}  // namespace

uint64_t sum_words(const unsigned char* p, size_t nbytes) {
  constexpr size_t kSums = kStepBytes / sizeof(Sum);
  Sum sums[kStreams][kSums] = {};
  const size_t stream = nbytes / kStreams;
  for (size_t at = 0; at + kStepBytes <= stream; at += kStepBytes)
    for (size_t s = 0; s < kStreams; ++s)
      for (size_t i = 0; i < kSums; ++i) sums[s][i] = add(sums[s][i], p + s * stream + at + i * sizeof(Sum));
  uint64_t words[sizeof sums / sizeof(uint64_t)], total = 0;
  std::memcpy(words, sums, sizeof sums);
  for (uint64_t word : words) total += word;
  return total;
}

}  // namespace apportion::APPORTION_ISA
