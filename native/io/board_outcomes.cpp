// How reads are handed out, come back, and are waited for.
#include <algorithm>

#include "board.h"

namespace apportion {

// --- for the back end ---

ReadOp* Board::next_op() const {
  if (num_in_flight_ >= limits_.depth) return nullptr;
  if (ReadOp* op = queues_[size_t(Priority::demand)].first) return op;
  // A demand that comes now shall not find everything taken.
  const unsigned room = std::max(1u, limits_.depth / 2);
  return num_prefetches_in_flight_ < room ? queues_[size_t(Priority::prefetch)].first : nullptr;
}

ReadOp* Board::issue_next() {
  ReadOp* op = next_op();
  if (!op) return nullptr;
  Entry& entry = entries_[op->ticket];
  queue_of(entry).remove(op);
  op->stage = ReadOp::Stage::in_flight;
  op->issued = IoClock::now();
  ++entry.num_in_flight;
  if (!num_in_flight_++) reading_since_ = op->issued;
  num_prefetches_in_flight_ += entry.priority == Priority::prefetch;
  return op;
}

ReadOp* Board::take() {
  const std::lock_guard lock(mutex_);
  return issue_next();
}

ReadOp* Board::take_or_wait() {
  std::unique_lock lock(mutex_);
  work_.wait(lock, [&] { return closed_ || next_op(); });
  return issue_next();
}

bool Board::has_work() const {
  const std::lock_guard lock(mutex_);
  return next_op() != nullptr;
}

bool Board::idle_and_closed() const {
  const std::lock_guard lock(mutex_);
  return closed_ && !num_in_flight_;
}

void Board::count_calls(const ReadOp& op) {
  stats_.num_calls += op.num_calls;
  stats_.num_retries += op.retries;
  stats_.nbytes_read += op.filled;
  if (!op.source->direct()) stats_.nbytes_buffered += op.filled;
}

void Board::finish(ReadOp* op) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[op->ticket];
  op->stage = ReadOp::Stage::finished;
  --entry.num_left;
  --entry.num_in_flight;
  --num_in_flight_;
  num_prefetches_in_flight_ -= entry.priority == Priority::prefetch;
  last_progress_ = IoClock::now();
  if (!num_in_flight_) stats_.reading += last_progress_ - reading_since_;
  count_calls(*op);
  if (op->failure.cause != Cause::none) fail(entry, *op, op->failure);
  if (!entry.num_left) conclude(op->ticket);
  if (!num_in_flight_) outcomes_.notify_all();
  if (next_op()) work_.notify_one();  // depth has become free
}

void Board::fail(Entry& entry, const ReadOp& op, Failure failure) {
  if (entry.outcome.failure.cause != Cause::none) return;
  entry.outcome.failure = failure;
  entry.outcome.file = op.file;
  entry.outcome.offset = op.offset;
  entry.outcome.nbytes = op.nbytes;
  entry.outcome.num_calls = op.num_calls;
  ++stats_.num_failed;
  drop_queued(entry);  // nobody wants the rest any more
}

void Board::conclude(uint32_t index) {
  Entry& entry = entries_[index];
  if (entry.state == State::abandoned) return free_entry(index);
  entry.state = State::done;
  entry.memory.reset();
  outcomes_.notify_all();
}

// --- waiting ---

std::optional<Outcome> Board::wait_any(std::span<const Ticket> tickets, IoClock::time_point until) {
  std::unique_lock lock(mutex_);
  for (;;) {
    IoClock::time_point wake = until;
    bool pending = false;
    for (const Ticket ticket : tickets) {
      if (std::optional<Outcome> outcome = collect(ticket)) return outcome;
      const Entry* entry = find(ticket);
      if (!entry || entry->state != State::pending) continue;
      pending = true;
      wake = std::min(wake, stuck_at(*entry));
    }
    const IoClock::time_point now = IoClock::now();
    if (now >= until || !pending) return std::nullopt;
    if (now >= wake) {
      for (const Ticket ticket : tickets)
        if (std::optional<Outcome> outcome = abandon(ticket)) return outcome;
      continue;
    }
    outcomes_.wait_until(lock, wake);
  }
}

std::optional<Outcome> Board::collect(Ticket ticket) {
  const Entry* entry = find(ticket);
  if (!entry || entry->state != State::done) return std::nullopt;
  const Outcome outcome = entry->outcome;
  free_entry(uint32_t(ticket));
  return outcome;
}

// A read whose first call does not return. One that is still queued is stuck when nothing at all moves.
IoClock::time_point Board::stuck_at(const Entry& entry) const {
  if (entry.state != State::pending) return IoClock::time_point::max();
  IoClock::time_point oldest = IoClock::time_point::max();
  for (const ReadOp* op = entry.first_part; op; op = op->next_part)
    if (op->stage == ReadOp::Stage::in_flight) oldest = std::min(oldest, op->issued);
  if (oldest == IoClock::time_point::max()) oldest = std::max(entry.submitted, last_progress_);
  return oldest + limits_.stuck_after;
}

// Its failure is known at once; its memory stays ours until the system has let go of it.
std::optional<Outcome> Board::abandon(Ticket ticket) {
  Entry* entry = find(ticket);
  if (!entry || stuck_at(*entry) > IoClock::now()) return std::nullopt;
  const ReadOp* culprit = entry->first_part;
  for (const ReadOp* op = culprit; op; op = op->next_part)
    if (op->stage == ReadOp::Stage::in_flight &&
        (culprit->stage != ReadOp::Stage::in_flight || op->issued < culprit->issued))
      culprit = op;
  fail(*entry, *culprit, {Cause::stuck});
  const Outcome outcome = entry->outcome;
  entry->state = State::abandoned;
  if (!entry->num_left) free_entry(uint32_t(ticket));
  return outcome;
}

bool Board::forget_all(IoClock::time_point until) {
  std::unique_lock lock(mutex_);
  for (uint32_t index = 0; index < entries_.size(); ++index) {
    Entry& entry = entries_[index];
    if (entry.state == State::pending) {
      drop_queued(entry);
      entry.state = State::abandoned;
    }
    if (entry.state == State::done || (entry.state == State::abandoned && !entry.num_left)) free_entry(index);
  }
  return outcomes_.wait_until(lock, until, [&] { return !num_in_flight_; });
}

// --- closing ---

void Board::close() {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  closed_ = true;
  for (uint32_t index = 0; index < entries_.size(); ++index) {
    Entry& entry = entries_[index];
    if (entry.state != State::pending || entry.num_left == entry.num_in_flight) continue;
    const ReadOp* queued = entry.first_part;
    while (queued->stage != ReadOp::Stage::queued) queued = queued->next_part;
    fail(entry, *queued, {Cause::closed});
    if (!entry.num_left) conclude(index);
  }
  work_.notify_all();
}

bool Board::drain(IoClock::time_point until) {
  std::unique_lock lock(mutex_);
  return outcomes_.wait_until(lock, until, [&] { return !num_in_flight_; });
}

void Board::close_files() {
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<Source>& source : sources_) source->close();
}

}  // namespace apportion
