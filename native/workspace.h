// Scratch memory of one call. It belongs to the calling thread and is kept for its next call, so that steady work
// allocates nothing.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "pages.h"

namespace apportion {

class Workspace {
 public:
  Workspace() { buffers().used = 0; }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Uninitialized, aligned to 64 bytes, valid until the thread's next Workspace.
  template <class T>
  std::span<T> take(size_t count) {
    return {static_cast<T*>(take_bytes(count * sizeof(T))), count};
  }

 private:
  struct Buffer {
    Pages memory;
    size_t nbytes = 0;
  };
  struct Buffers {
    std::vector<Buffer> list;
    size_t used = 0;
  };

  static Buffers& buffers() {
    thread_local Buffers own;
    return own;
  }

  static void* take_bytes(size_t nbytes) {
    Buffers& own = buffers();
    if (own.used == own.list.size()) own.list.emplace_back();
    Buffer& buffer = own.list[own.used++];
    if (buffer.nbytes < nbytes || !buffer.memory) {
      buffer.memory.reset();
      buffer.nbytes = 0;
      buffer.memory = allocate_pages(nbytes);
      buffer.nbytes = nbytes;
    }
    return buffer.memory.get();
  }
};

}  // namespace apportion
