#include "expert_shelf.h"

#include <algorithm>

namespace apportion {

namespace {

double seconds_since(IoClock::time_point begin) {
  return std::chrono::duration<double>(IoClock::now() - begin).count();
}

}  // namespace

ExpertShelf::ExpertShelf(std::shared_ptr<ExpertTable> table, std::shared_ptr<SlotArena> arena,
                         std::shared_ptr<Reader> reader, std::shared_ptr<LoadTimes> times, std::vector<Unit> units)
    : table_(std::move(table)),
      arena_(std::move(arena)),
      reader_(std::move(reader)),
      times_(std::move(times)),
      units_(std::move(units)),
      held_(units_.size()),
      uses_(units_.size()) {
  table_->set_shelf(this);
}

ExpertShelf::~ExpertShelf() {
  for (size_t expert = 0; expert < count(); ++expert)
    if (held_[expert].state == State::here) give_up(expert);
  table_->set_shelf(nullptr);
}

ExpertShelf::State ExpertShelf::state(size_t expert) const {
  const std::lock_guard lock(mutex_);
  return held_[expert].state;
}

void ExpertShelf::set_state(size_t expert, State state) {
  const std::lock_guard lock(mutex_);
  State& now = held_[expert].state;
  num_held_ += size_t(state != State::away) - size_t(now != State::away);
  num_coming_ += size_t(state == State::coming) - size_t(now == State::coming);
  now = state;
}

bool ExpertShelf::is_ready(size_t expert) const {
  const Held& held = held_[expert];
  return held.state == State::here || (held.state == State::coming && reader_->board().ready(held.ticket));
}

// --- being asked for ---

size_t ExpertShelf::ask(std::span<const uint32_t> experts, std::vector<uint32_t>& missing) {
  const std::lock_guard lock(mutex_);
  size_t num_here = 0;
  for (const uint32_t expert : experts) {
    const Held& held = held_[expert];
    const bool is_here = held.state == State::here;
    num_here += is_here;
    ++(is_here ? uses_[expert].hits : uses_[expert].misses);
    if (held.state == State::away) missing.push_back(expert);
    if (held.state == State::coming) reader_->promote(held.ticket);
  }
  return num_here;
}

std::vector<ExpertShelf::Uses> ExpertShelf::uses() const {
  const std::lock_guard lock(mutex_);
  return uses_;
}

// --- without being told ---

void ExpertShelf::let_go(size_t num_slots, std::vector<uint32_t> order) {
  num_slots_ = num_slots;
  may_leave_ = std::move(order);
}

std::optional<size_t> ExpertShelf::bring(std::span<const uint32_t> experts, std::vector<uint32_t>& left) {
  if (num_coming_) take_in();
  if (has_failed() || !find_leaving(experts)) return std::nullopt;
  for (const uint32_t expert : leaving_) give_up(expert);
  left.insert(left.end(), leaving_.begin(), leaving_.end());
  missing_.clear();
  const size_t num_here = ask(experts, missing_);
  for (const uint32_t expert : missing_)
    if (start(expert, Priority::demand) != Started::yes) failure_ = {expert, {.failure = {Cause::closed}}};
  return num_here;
}

// Who makes way for those of a token that are away; false where there are not slots enough.
bool ExpertShelf::find_leaving(std::span<const uint32_t> experts) {
  leaving_.clear();
  const size_t num_away =
      size_t(std::ranges::count_if(experts, [&](uint32_t expert) { return held_[expert].state == State::away; }));
  if (!num_away) return true;
  if (num_held_ > num_slots_ || !failed_.empty()) return false;
  const size_t num_free = std::min(num_slots_ - num_held_, arena_->num_free());
  const size_t num_leaving = num_away - std::min(num_away, num_free);
  for (const uint32_t expert : may_leave_) {
    if (leaving_.size() == num_leaving) break;
    if (held_[expert].state == State::here && std::ranges::find(experts, expert) == experts.end())
      leaving_.push_back(expert);
  }
  return leaving_.size() == num_leaving;
}

// --- coming and going ---

ExpertShelf::Started ExpertShelf::start(size_t expert, Priority priority) {
  const std::optional<Slot> slot = arena_->take();
  if (!slot) return Started::no_slot;
  uint8_t* const bytes = arena_->bytes(*slot).data();
  parts_.clear();
  for (const Unit::Stretch& stretch : units_[expert].stretches)
    parts_.push_back({stretch.file, stretch.offset, stretch.nbytes, bytes + stretch.at});
  const IoClock::time_point asked = IoClock::now();
  const Ticket ticket = reader_->submit(parts_, priority, arena_->memory());
  if (!ticket) {
    arena_->release(*slot);
    return Started::closed;
  }
  held_[expert] = {State::away, priority == Priority::demand, *slot, ticket, asked};
  set_state(expert, State::coming);
  return Started::yes;
}

void ExpertShelf::give_up(size_t expert) {
  table_->clear(expert);
  set_state(expert, State::away);
  arena_->release(held_[expert].slot);
}

std::optional<uint32_t> ExpertShelf::wait(std::span<const uint32_t> experts, IoClock::time_point until) {
  tickets_.clear();
  for (const uint32_t expert : experts)
    if (held_[expert].state == State::coming) tickets_.push_back(held_[expert].ticket);
  if (tickets_.empty() || has_failed()) return std::nullopt;
  const IoClock::time_point begin = IoClock::now();
  const std::optional<Outcome> outcome = reader_->board().wait_any(tickets_, until);
  times_->add_stall(seconds_since(begin));
  if (!outcome) {
    if (IoClock::now() < until)
      failure_ = {experts.front(), {.failure = {Cause::closed}}};  // nobody reads them any more
    return std::nullopt;
  }
  const uint32_t expert = *std::ranges::find_if(
      experts, [&](uint32_t one) { return held_[one].state == State::coming && held_[one].ticket == outcome->ticket; });
  take(expert, *outcome);
  return has_failed() ? std::nullopt : std::optional(expert);
}

// Its read has ended, well or not.
void ExpertShelf::take(size_t expert, const Outcome& outcome) {
  Held& held = held_[expert];
  if (outcome.failure.cause != Cause::none) {
    failure_ = {uint32_t(expert), outcome};
    failed_.push_back({held.ticket, held.slot});
    set_state(expert, State::away);
    settle();
    return;
  }
  uint8_t* const bytes = arena_->bytes(held.slot).data();
  const auto& [gate, up, down] = units_[expert].starts;
  table_->put(expert, {bytes + gate, bytes + up, bytes + down});
  set_state(expert, State::here);
  if (held.is_awaited) times_->add_load(seconds_since(held.asked));
}

void ExpertShelf::take_in() {
  for (uint32_t expert = 0; num_coming_ && expert < count(); ++expert)
    if (held_[expert].state == State::coming && is_ready(expert)) wait(std::span(&expert, 1), IoClock::now());
}

// --- after failures ---

bool ExpertShelf::settle() {
  std::erase_if(failed_,
                [&](const Failed& one) { return reader_->board().settled(one.ticket) && arena_->release(one.slot); });
  return !failed_.empty();
}

std::vector<uint32_t> ExpertShelf::recover() {
  std::vector<uint32_t> lost;
  for (uint32_t expert = 0; expert < count(); ++expert) {
    if (held_[expert].state != State::coming) continue;
    set_state(expert, State::away);
    arena_->release(held_[expert].slot);
    lost.push_back(expert);
  }
  for (const Failed& one : failed_) arena_->release(one.slot);
  failed_.clear();
  failure_.reset();
  return lost;
}

}  // namespace apportion
