// Lets go of the GIL while it lives, and counts that time: the rest of a step's time is Python's and the binding's.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>

namespace apportion {

class Unlocked {
 public:
  Unlocked() : begin_(Clock::now()) {}
  ~Unlocked() { busy() += Clock::now() - begin_; }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

  // Seconds that calls from this thread have spent in the core so far.
  static double busy_seconds() { return std::chrono::duration<double>(busy()).count(); }

 private:
  using Clock = std::chrono::steady_clock;

  static Clock::duration& busy() {
    thread_local Clock::duration total{};
    return total;
  }

  nanobind::gil_scoped_release release_;
  Clock::time_point begin_;
};

}  // namespace apportion
