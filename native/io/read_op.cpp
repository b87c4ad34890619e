#include "read_op.h"

#include <algorithm>
#include <cerrno>

namespace apportion {

namespace {

constexpr unsigned kMaxInterrupts = 100;  // in a row
constexpr unsigned kMaxRetries = 3;       // of calls that failed, in all
constexpr auto kFirstPause = std::chrono::milliseconds(2);

bool may_pass(int error) { return error == EIO || error == ENOMEM || error == EBUSY || error == ENOBUFS; }

}  // namespace

Call ReadOp::next_call() const {
  const bool direct = source->direct();
  const size_t end = direct ? size_t(block_end(begin() + needed()) - begin()) : needed();
  const size_t from = direct ? size_t(block_begin(filled)) : filled;
  return {source->descriptor(direct), place + from, end - from, begin() + from, direct};
}

Verdict ReadOp::advance(const Call& call, int64_t result) {
  ++num_calls;
  return result < 0 ? take_error(call, int(-result)) : take_bytes(call, size_t(result));
}

Verdict ReadOp::take_error(const Call& call, int error) {
  if ((error == EINTR || error == EAGAIN) && interrupts < kMaxInterrupts) {
    ++interrupts;
    if (error == EINTR) return Verdict::again;
    pause = kFirstPause;
    return Verdict::later;
  }
  if (error == EINVAL && call.direct) {  // the file system opens files for direct reading, and then does not do it
    source->refuse_direct(error);
    return Verdict::again;
  }
  if (may_pass(error) && retries < kMaxRetries) return pause_and_repeat();
  return fail(Cause::system, error);
}

Verdict ReadOp::take_bytes(const Call& call, size_t count) {
  if (!call.direct && count) source->drop_cached(call.offset, count);
  const size_t there = size_t(call.offset - begin()) + count;
  if (there > filled) {
    filled = there;
    interrupts = 0;
    return filled >= needed() ? finish() : Verdict::again;
  }
  if (source->nbytes_now() < offset + nbytes) return fail(Cause::truncated);
  return retries < kMaxRetries ? pause_and_repeat() : fail(Cause::system, EIO);
}

Verdict ReadOp::pause_and_repeat() {
  pause = kFirstPause * (1 << 2 * retries++);
  return Verdict::later;
}

// What was written meanwhile may be half of one state and half of another.
Verdict ReadOp::finish() {
  if (!source->changed()) return Verdict::done;
  return fail(source->nbytes_now() < offset + nbytes ? Cause::truncated : Cause::changed);
}

Verdict ReadOp::fail(Cause cause, int error) {
  const size_t skipped = size_t(offset - begin());
  failure = {cause, error, filled > skipped ? std::min(filled - skipped, nbytes) : 0};
  return Verdict::failed;
}

}  // namespace apportion
