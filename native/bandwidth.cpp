#include "bandwidth.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "cpu.h"
#include "pool.h"

namespace apportion {

namespace {

constexpr size_t kRunBytes = 1 << 20;
std::atomic<uint64_t> sink;  // keeps the reads from being left out

}  // namespace

double stream_bandwidth(size_t nbytes, unsigned threads, unsigned repeats) {
  const std::vector<unsigned char> buffer(nbytes, 1);
  const auto sum_words = find_kernels({})->sum_words;
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
