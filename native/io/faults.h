// The fault port: lets tests break the calls that they pick. Without rules it costs one comparison a call.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "read_op.h"

namespace apportion {

// What happens to calls `first` to `first + count - 1`, counted from 0 over all files in the order of issue.
struct Fault {
  uint64_t first = 0, count = 0;
  int error = 0;                     // the call is not made and fails with it
  bool cut = false;                  // the call is made for half of its bytes
  std::chrono::nanoseconds delay{};  // its result comes this much later
};

class FaultPort {
 public:
  explicit FaultPort(std::vector<Fault> rules) : rules_(std::move(rules)) {}

  // The fault of the call that comes next, which is cut short where that is the fault.
  Fault meet(Call& call) {
    if (rules_.empty()) return {};
    const uint64_t number = num_calls_++;
    for (const Fault& rule : rules_)
      if (number >= rule.first && number - rule.first < rule.count) {
        // Whole blocks, as the system itself cuts direct reads.
        if (rule.cut && call.nbytes > kBlock) call.nbytes = size_t(block_end(call.nbytes / 2));
        return rule;
      }
    return {};
  }

 private:
  const std::vector<Fault> rules_;
  std::atomic<uint64_t> num_calls_{0};
};

}  // namespace apportion
