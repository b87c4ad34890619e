// The kernel's ring of asynchronous calls (io_uring), by its system calls alone. One thread makes and uses it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "read_op.h"

namespace apportion {

class Ring {
 public:
  struct Completion {
    uint64_t tag;
    int64_t result;  // bytes, or a negative errno
  };

  // Null with `error` set to an errno where the kernel has none, forbids it, or has one that is too old for us.
  static std::unique_ptr<Ring> make(unsigned num_entries, int& error);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Notes a call for the next enter(). At most `num_entries` may be noted or on their way.
  void read(const Call& call, uint64_t tag);
  // Gives the kernel what was noted, and returns when something is complete or `timeout` is over. An errno, or 0.
  int enter(std::chrono::nanoseconds timeout);
  // What is complete, one at a time.
  std::optional<Completion> reap();

 private:
  struct Maps;
  Ring();

  std::unique_ptr<Maps> maps_;
};

}  // namespace apportion
