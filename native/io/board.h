// Where reads are asked for, handed out to the back end, and waited for. All of it under one lock, which nobody holds
// during a call to the system.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "../slots.h"
#include "faults.h"
#include "read_op.h"

namespace apportion {

enum class Priority : uint8_t { demand, prefetch };

// A stretch of a file and where its first block goes: an address that is a multiple of kBlock.
struct Part {
  uint32_t file;
  uint64_t offset;
  size_t nbytes;
  uint8_t* place;
};

// Names one read until its outcome is collected; never given twice.
using Ticket = uint64_t;

struct Outcome {
  Ticket ticket = 0;
  Failure failure;
  // Of the stretch that failed.
  uint32_t file = 0;
  uint64_t offset = 0, nbytes = 0;
  unsigned num_calls = 0;
};

struct ReadStats {
  unsigned num_in_flight = 0;  // stretches, now; all others are sums
  uint64_t num_reads = 0, num_prefetches = 0, num_cancelled = 0, num_failed = 0;
  uint64_t num_calls = 0, num_retries = 0;
  uint64_t nbytes_wanted = 0, nbytes_read = 0, nbytes_buffered = 0;
  IoClock::duration reading{};  // in which anything was in flight
};

struct BoardLimits {
  unsigned depth;  // stretches that are read at once; prefetches fill at most half of them
  size_t chunk;    // longer stretches are read as several
  IoClock::duration stuck_after;
};

class Board {
 public:
  Board(BoardLimits limits, std::vector<Fault> faults) : faults(std::move(faults)), limits_(limits) {}

  FaultPort faults;

  // --- for callers ---

  uint32_t add(std::unique_ptr<Source> source);
  const Source* source(uint32_t file) const;

  // One ticket for all parts. `memory` is kept until none of them is in flight any more. 0 after close().
  Ticket submit(std::span<const Part> parts, Priority priority, std::shared_ptr<Memory> memory);
  // The outcome of the first of the tickets that has one, which is collected with it. None at `until`, and at once when
  // all tickets are unknown or collected already.
  std::optional<Outcome> wait_any(std::span<const Ticket> tickets, IoClock::time_point until);
  // Its outcome can be collected without waiting.
  bool ready(Ticket ticket) const;
  // Forgets a read of which nothing was issued yet. False, and nothing happens, otherwise.
  bool cancel(Ticket ticket);
  // A prefetch that is demanded now overtakes all other prefetches. False where it is none any more.
  bool promote(Ticket ticket);
  // Nothing of it is written any more; after a failure for being stuck that may take longer.
  bool settled(Ticket ticket) const;
  bool knows(Ticket ticket) const;
  // Forgets all reads: nobody waits for them any more. False where some are still in flight at `until`.
  bool forget_all(IoClock::time_point until);
  ReadStats stats() const;

  // What was not issued fails; nothing new is taken.
  void close();
  // Returns when nothing is in flight; false when that is not so at `until`.
  bool drain(IoClock::time_point until);
  // After that.
  void close_files();

  // --- for the back end ---

  // The next stretch to read; null when there is none, or when enough are in flight.
  ReadOp* take();
  // The same, waiting for one; null when the board is closed.
  ReadOp* take_or_wait();
  void finish(ReadOp* op);
  bool has_work() const;
  bool idle_and_closed() const;

 private:
  enum class State : uint8_t { free, pending, done, abandoned };

  struct Entry {
    State state = State::free;
    Priority priority = Priority::demand;
    uint32_t generation = 1;
    uint32_t num_left = 0;       // stretches that are not finished
    uint32_t num_in_flight = 0;  // of these
    ReadOp *first_part = nullptr, *last_part = nullptr;
    IoClock::time_point submitted;
    Outcome outcome;
    std::shared_ptr<Memory> memory;
  };

  struct Queue {
    ReadOp *first = nullptr, *last = nullptr;
    void push(ReadOp* op);
    void remove(ReadOp* op);
  };

  uint32_t take_entry();
  void free_entry(uint32_t index);
  Entry* find(Ticket ticket);
  const Entry* find(Ticket ticket) const;
  Ticket ticket_of(uint32_t index) const { return Ticket(entries_[index].generation) << 32 | index; }
  ReadOp* take_op();
  void add_stretches(uint32_t index, const Part& part);
  Queue& queue_of(const Entry& entry) { return queues_[size_t(entry.priority)]; }
  void drop_queued(Entry& entry);
  void fail(Entry& entry, const ReadOp& op, Failure failure);
  void conclude(uint32_t index);
  ReadOp* next_op() const;
  ReadOp* issue_next();
  void count_calls(const ReadOp& op);
  IoClock::time_point stuck_at(const Entry& entry) const;
  std::optional<Outcome> collect(Ticket ticket);
  std::optional<Outcome> abandon(Ticket ticket);

  const BoardLimits limits_;
  mutable std::mutex mutex_;
  std::condition_variable work_, outcomes_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::deque<ReadOp> ops_;  // addresses stay
  ReadOp* free_ops_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_entries_;
  Queue queues_[2];
  unsigned num_in_flight_ = 0, num_prefetches_in_flight_ = 0;
  IoClock::time_point last_progress_{}, reading_since_{};
  ReadStats stats_;
  bool closed_ = false;
};

}  // namespace apportion
