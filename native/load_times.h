// How long reads take those who wait for them, of all layers together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

namespace apportion {

// One thread adds; others may ask meanwhile.
class LoadTimes {
 public:
  struct Told {
    double stall_s = 0;            // in which nothing was computed
    double load_s = 0;             // from asking to having, the sum of all
    std::vector<uint64_t> counts;  // of them by edges, and of those beyond the last
  };

  // Ascending; a time counts at the first edge that is not below it.
  explicit LoadTimes(std::vector<double> edges) : edges_(std::move(edges)) { told_.counts.resize(edges_.size() + 1); }

  void add_stall(double seconds) {
    const std::lock_guard lock(mutex_);
    told_.stall_s += seconds;
  }

  void add_load(double seconds) {
    const size_t edge = size_t(std::ranges::lower_bound(edges_, seconds) - edges_.begin());
    const std::lock_guard lock(mutex_);
    told_.load_s += seconds;
    ++told_.counts[edge];
  }

  Told told() const {
    const std::lock_guard lock(mutex_);
    return told_;
  }

 private:
  const std::vector<double> edges_;
  mutable std::mutex mutex_;
  Told told_;
};

}  // namespace apportion
