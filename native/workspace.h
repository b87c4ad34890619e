// Scratch memory, which is kept for the next time it is needed, so that steady work allocates nothing.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "pages.h"

namespace apportion {

// Pieces are valid until the next reset.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void reset() { used_ = 0; }

  // Uninitialized, aligned to 64 bytes.
  template <class T>
  std::span<T> take(size_t count) {
    return {static_cast<T*>(take_bytes(count * sizeof(T))), count};
  }

 private:
  struct Buffer {
    Pages memory;
    size_t nbytes = 0;
  };

  void* take_bytes(size_t nbytes) {
    if (used_ == list_.size()) list_.emplace_back();
    Buffer& buffer = list_[used_++];
    if (buffer.nbytes < nbytes || !buffer.memory) {
      buffer.memory.reset();
      buffer.nbytes = 0;
      buffer.memory = allocate_pages(nbytes);
      buffer.nbytes = nbytes;
    }
    return buffer.memory.get();
  }

  std::vector<Buffer> list_;
  size_t used_ = 0;
};

// The scratch of one call. It belongs to the calling thread, and is valid until the thread's next Workspace.
class Workspace {
 public:
  Workspace() : own_(of_thread()) { own_.reset(); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  std::span<T> take(size_t count) {
    return own_.take<T>(count);
  }

  operator Scratch&() { return own_; }

 private:
  static Scratch& of_thread() {
    thread_local Scratch own;
    return own;
  }

  Scratch& own_;
};

}  // namespace apportion
