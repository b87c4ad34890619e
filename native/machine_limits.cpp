#include "machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "cpu.h"
#include "pool.h"

namespace apportion {

namespace {

constexpr size_t kPeakRounds = 20000;  // about 0.1 ms
constexpr size_t kPeakRuns = 32;       // per thread, so that one that wakes late still takes its part

std::atomic<uint64_t> sink;  // keeps the reads from being left out

template <class Work>
double seconds_of(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Stream::Stream(size_t nbytes, unsigned threads)
    : num_runs_(round_up(std::max(nbytes, kRunBytes), kHugePage) / kRunBytes), memory_(allocate_pages(this->nbytes())) {
  // By the threads that will read it, so that each has pages near its own processor.
  Pool::shared().run(num_runs_, 1, threads, [&](size_t first, size_t last, unsigned) {
    std::memset(memory_.get() + first * kRunBytes, 1, (last - first) * kRunBytes);
  });
}

double Stream::read(unsigned threads) const {
  const auto sum_words = find_kernels({})->sum_words;
  const double seconds = seconds_of([&] {
    Pool::shared().run(num_runs_, 1, threads, [&](size_t first, size_t last, unsigned) {
      sink += sum_words(memory_.get() + first * kRunBytes, (last - first) * kRunBytes);
    });
  });
  return double(nbytes()) / seconds;
}

double compute_peak(const Kernels& kernels, PeakKind kind, unsigned threads, unsigned repeats) {
  double best = 0;
  for (unsigned i = 0; i < repeats; ++i) {
    std::atomic<uint64_t> done{0};
    const double seconds = seconds_of([&] {
      Pool::shared().run(threads * kPeakRuns, 1, threads, [&](size_t first, size_t last, unsigned) {
        done += kernels.multiply_adds(kind, (last - first) * kPeakRounds);
      });
    });
    best = std::max(best, 2 * double(done) / seconds);
  }
  return best;
}

}  // namespace apportion
