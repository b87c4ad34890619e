#include "bandwidth.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pool.h"

namespace apportion {

namespace {

constexpr size_t kRunBytes = 1 << 20;
std::atomic<uint64_t> sink;  // keeps the reads from being left out

// Enough independent sums that only memory is waited for; compilers turn them into vectors.
uint64_t sum_words(const unsigned char* p, size_t nbytes) {
  constexpr size_t kLanes = 32;
  uint64_t sums[kLanes] = {};
  for (size_t i = 0; i + kLanes * 8 <= nbytes; i += kLanes * 8) {
    uint64_t words[kLanes];
    std::memcpy(words, p + i, sizeof words);
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += words[lane];
  }
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

double stream_bandwidth(size_t nbytes, unsigned threads, unsigned repeats) {
  const std::vector<unsigned char> buffer(nbytes, 1);
  double best = 0;
  for (unsigned i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    Pool::shared().run(nbytes / kRunBytes, 1, threads, [&](size_t first, size_t last, unsigned) {
      sink += sum_words(buffer.data() + first * kRunBytes, (last - first) * kRunBytes);
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    best = std::max(best, double(nbytes / kRunBytes * kRunBytes) / elapsed.count());
  }
  return best;
}

}  // namespace apportion
