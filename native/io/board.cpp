#include "board.h"

#include <algorithm>

namespace apportion {

void Board::Queue::push(ReadOp* op) {
  op->previous = last;
  op->next = nullptr;
  (last ? last->next : first) = op;
  last = op;
}

void Board::Queue::remove(ReadOp* op) {
  (op->previous ? op->previous->next : first) = op->next;
  (op->next ? op->next->previous : last) = op->previous;
  op->previous = op->next = nullptr;
}

uint32_t Board::add(std::unique_ptr<Source> source) {
  const std::lock_guard lock(mutex_);
  sources_.push_back(std::move(source));
  return uint32_t(sources_.size() - 1);
}

const Source* Board::source(uint32_t file) const {
  const std::lock_guard lock(mutex_);
  return file < sources_.size() ? sources_[file].get() : nullptr;
}

// --- tickets ---

uint32_t Board::take_entry() {
  if (free_entries_.empty()) {
    entries_.emplace_back();
    free_entries_.reserve(entries_.size());
    return uint32_t(entries_.size() - 1);
  }
  const uint32_t index = free_entries_.back();
  free_entries_.pop_back();
  return index;
}

void Board::free_entry(uint32_t index) {
  Entry& entry = entries_[index];
  for (ReadOp* op = entry.first_part; op;) {
    ReadOp* next = op->next_part;
    *op = ReadOp{};
    op->next = free_ops_;
    free_ops_ = op;
    op = next;
  }
  entry.first_part = entry.last_part = nullptr;
  entry.state = State::free;
  entry.memory.reset();
  ++entry.generation;
  free_entries_.push_back(index);
}

const Board::Entry* Board::find(Ticket ticket) const {
  const uint32_t index = uint32_t(ticket);
  if (index >= entries_.size()) return nullptr;
  const Entry& entry = entries_[index];
  return entry.state != State::free && entry.generation == uint32_t(ticket >> 32) ? &entry : nullptr;
}

Board::Entry* Board::find(Ticket ticket) { return const_cast<Entry*>(static_cast<const Board*>(this)->find(ticket)); }

ReadOp* Board::take_op() {
  if (!free_ops_) return &ops_.emplace_back();
  ReadOp* op = free_ops_;
  free_ops_ = op->next;
  op->next = nullptr;
  return op;
}

// Cut at blocks, so that all pieces but the first begin with one.
void Board::add_stretches(uint32_t index, const Part& part) {
  Entry& entry = entries_[index];
  const uint64_t begin = block_begin(part.offset), end = part.offset + part.nbytes;
  for (uint64_t from = part.offset; from < end;) {
    const uint64_t to = std::min<uint64_t>(end, block_begin(from) + limits_.chunk);
    ReadOp* op = take_op();
    op->source = sources_[part.file].get();
    op->file = part.file;
    op->offset = from;
    op->nbytes = size_t(to - from);
    op->place = part.place + (block_begin(from) - begin);
    op->ticket = index;
    (entry.last_part ? entry.last_part->next_part : entry.first_part) = op;
    entry.last_part = op;
    ++entry.num_left;
    queue_of(entry).push(op);
    from = to;
  }
  stats_.nbytes_wanted += part.nbytes;
}

Ticket Board::submit(std::span<const Part> parts, Priority priority, std::shared_ptr<Memory> memory) {
  const std::lock_guard lock(mutex_);
  if (closed_) return 0;
  const uint32_t index = take_entry();
  Entry& entry = entries_[index];
  entry.state = State::pending;
  entry.priority = priority;
  entry.num_left = entry.num_in_flight = 0;
  entry.outcome = Outcome{};
  entry.outcome.ticket = ticket_of(index);
  entry.memory = std::move(memory);
  entry.submitted = IoClock::now();
  for (const Part& part : parts) add_stretches(index, part);
  if (!entry.num_left) conclude(index);
  ++(priority == Priority::prefetch ? stats_.num_prefetches : stats_.num_reads);
  entry.num_left > 1 ? work_.notify_all() : work_.notify_one();
  return entry.outcome.ticket;
}

bool Board::ready(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  const Entry* entry = find(ticket);
  return entry && entry->state == State::done;
}

bool Board::knows(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  const Entry* entry = find(ticket);
  return entry && entry->state != State::abandoned;
}

bool Board::settled(Ticket ticket) const {
  const std::lock_guard lock(mutex_);
  const Entry* entry = find(ticket);
  return !entry || entry->num_left == 0;
}

void Board::drop_queued(Entry& entry) {
  for (ReadOp* op = entry.first_part; op; op = op->next_part)
    if (op->stage == ReadOp::Stage::queued) {
      queue_of(entry).remove(op);
      op->stage = ReadOp::Stage::finished;
      --entry.num_left;
    }
}

bool Board::cancel(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  Entry* entry = find(ticket);
  if (!entry || entry->state != State::pending) return false;
  for (const ReadOp* op = entry->first_part; op; op = op->next_part)
    if (op->stage != ReadOp::Stage::queued) return false;
  drop_queued(*entry);
  free_entry(uint32_t(ticket));
  ++stats_.num_cancelled;
  return true;
}

bool Board::promote(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  Entry* entry = find(ticket);
  if (!entry || entry->state != State::pending || entry->priority == Priority::demand) return false;
  num_prefetches_in_flight_ -= entry->num_in_flight;
  Queue& from = queue_of(*entry);
  entry->priority = Priority::demand;
  for (ReadOp* op = entry->first_part; op; op = op->next_part)
    if (op->stage == ReadOp::Stage::queued) {
      from.remove(op);
      queue_of(*entry).push(op);
    }
  work_.notify_all();
  return true;
}

ReadStats Board::stats() const {
  const std::lock_guard lock(mutex_);
  ReadStats stats = stats_;
  stats.num_in_flight = num_in_flight_;
  if (num_in_flight_) stats.reading += IoClock::now() - reading_since_;
  return stats;
}

}  // namespace apportion
