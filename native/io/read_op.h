// One stretch of a file on its way into memory, and what the result of each call means for it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "source.h"

namespace apportion {

using IoClock = std::chrono::steady_clock;

enum class Cause : uint8_t { none, system, truncated, changed, stuck, closed };

// Why a read ended without its bytes.
struct Failure {
  Cause cause = Cause::none;
  int error = 0;      // errno, for Cause::system
  uint64_t have = 0;  // bytes of the stretch that were there
};

// One call to the system.
struct Call {
  int descriptor;
  uint8_t* place;
  size_t nbytes;
  uint64_t offset;
  bool direct;
};

enum class Verdict : uint8_t {
  done,
  again,   // the next call at once
  later,   // the next call after `pause`
  failed,  // see `failure`
};

// The stretch [offset, offset + nbytes) of a file. Reads are widened to whole blocks, so its first byte lands at
// place + offset % kBlock, directly read or not:
//
//   file    |....[#######|########|###]....|        [ ] what is wanted, | blocks
//   place   |....[#######|########|###]....|        place is aligned to a block too
struct ReadOp {
  Source* source = nullptr;
  uint64_t offset = 0;
  size_t nbytes = 0;
  uint8_t* place = nullptr;

  size_t filled = 0;  // bytes that are there, counted from the first block's begin
  unsigned interrupts = 0, retries = 0, num_calls = 0;
  Failure failure;
  IoClock::duration pause{};

  // Where it belongs and how far it is; the board's.
  enum class Stage : uint8_t { queued, in_flight, finished } stage = Stage::queued;
  uint32_t ticket = 0, file = 0;
  IoClock::time_point issued;
  ReadOp *previous = nullptr, *next = nullptr;  // in its queue
  ReadOp* next_part = nullptr;                  // of its ticket

  uint64_t begin() const { return block_begin(offset); }
  size_t needed() const { return size_t(offset - begin()) + nbytes; }

  Call next_call() const;
  // Takes the result of `call`: bytes, or a negative errno.
  Verdict advance(const Call& call, int64_t result);

 private:
  Verdict fail(Cause cause, int error = 0);
  Verdict take_error(const Call& call, int error);
  Verdict take_bytes(const Call& call, size_t count);
  Verdict pause_and_repeat();
  Verdict finish();
};

}  // namespace apportion
