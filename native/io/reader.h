// The mover's reader: asynchronous reads of stretches of files into memory that is ours.
//
//   callers            board                    back end
//   submit   ───────►  demands  ─┐
//   promote            prefetches┴─ at most ──► one call after the other per stretch,
//   cancel                          `depth`     short and failed ones continued
//   wait_any ◄───────  outcomes ◄────────────── by io_uring, or by threads
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"

namespace apportion {

struct ReaderOptions {
  bool try_ring = true;
  unsigned depth = 8;
  unsigned num_threads = 4;  // where there is no ring
  size_t chunk = 1 << 20;    // whole blocks
  double stuck_after_s = 30;
  std::vector<Fault> faults;
};

class Reader {
 public:
  // Null where the system gives neither a ring nor a thread.
  static std::unique_ptr<Reader> start(ReaderOptions options);
  ~Reader() { close(); }

  bool uses_ring() const { return uses_ring_; }
  // The errno with which the kernel refused a ring; 0 where it gave one, -1 where it was not asked.
  int ring_refusal() const { return ring_refusal_; }

  Board& board() { return *board_; }

  Ticket submit(std::span<const Part> parts, Priority priority, std::shared_ptr<Memory> memory);
  bool promote(Ticket ticket);

  // Drains what is in flight. False where some of it is stuck: it keeps its memory and files, and ends by itself.
  bool close();

 private:
  Reader() = default;

  std::shared_ptr<Board> board_;
  std::unique_ptr<Backend> backend_;
  IoClock::duration stuck_after_{};
  bool uses_ring_ = false;
  int ring_refusal_ = -1;
  int process_ = 0;
};

}  // namespace apportion
