// What this machine can do at most: what the speed of anything else is a share of.
#pragma once

#include <cstddef>

#include "kernels.h"
#include "pages.h"

namespace apportion {

// Memory to be read as a stream: far larger than the caches, in huge pages where the system gives them, and touched
// before it is read, so that page faults are never part of a measurement.
class Stream {
 public:
  // Rounded up to whole runs. Throws std::bad_alloc.
  Stream(size_t nbytes, unsigned threads);

  size_t nbytes() const { return num_runs_ * kRunBytes; }

  // Bytes a second of one pass by `threads` threads.
  double read(unsigned threads) const;

 private:
  static constexpr size_t kRunBytes = 1 << 20;

  size_t num_runs_;
  Pages memory_;
};

// Operations a second, two per multiply-add, that `threads` threads do in registers: the best of `repeats` runs of some
// milliseconds.
double compute_peak(const Kernels& kernels, PeakKind kind, unsigned threads, unsigned repeats);

}  // namespace apportion
