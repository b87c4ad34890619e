// What carries out the reads of a board: a ring of the kernel, or threads.
#pragma once

#include <memory>

#include "board.h"

namespace apportion {

class Backend {
 public:
  virtual ~Backend() = default;

  // There is something to take from the board, or it is closed.
  virtual void wake() = 0;
  // After the board is closed: waits for what carries out reads, or where `drained` is false lets it end by itself.
  virtual void stop(bool drained) = 0;
};

// Null with `error` set to an errno where the kernel has no ring for us.
std::unique_ptr<Backend> start_ring(std::shared_ptr<Board> board, unsigned depth, int& error);

// Null where the system gives no thread.
std::unique_ptr<Backend> start_threads(std::shared_ptr<Board> board, unsigned num_threads);

}  // namespace apportion
