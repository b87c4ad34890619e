#include "expert_stops.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace apportion {

namespace {

constexpr std::chrono::milliseconds kSlice{50};  // between two questions whether the run is to go on

}  // namespace

void ExpertStops::reset() {
  has_begun_ = false;
  forget_passed();
}

void ExpertStops::forget_passed() {
  layers_.clear();
  used_.clear();
  left_.clear();
}

// --- without a decision ---

ExpertStops::Pass ExpertStops::pass(ExpertShelf* shelf) {
  if (!brings(shelf)) return Pass::undecided;
  begin();
  if (!apply(shelf, std::span(used_).last(layers_.back().num_used))) return Pass::broken_off;
  end();
  return Pass::done;
}

bool ExpertStops::brings(ExpertShelf* shelf) {
  const ExpertInput input = program_.expert_input();
  const size_t num_used = used_.size(), num_left = left_.size();
  used_.insert(used_.end(), input.ids, input.ids + input.per_token);
  const auto used = std::span(used_).subspan(num_used);
  const ExpertPlace* const places = program_.waiting_for().experts.places;
  std::optional<size_t> num_here;
  if (shelf)
    num_here = shelf->bring(used, left_);
  else if (std::ranges::all_of(used, [&](uint32_t expert) { return places[expert].gate; }))
    num_here = used.size();
  if (num_here)
    layers_.push_back({used.size(), left_.size() - num_left, *num_here});
  else
    used_.resize(num_used);
  return bool(num_here);
}

// --- at the caller's word ---

void ExpertStops::begin() {
  has_begun_ = true;
  program_.start_experts();
}

bool ExpertStops::apply(ExpertShelf* shelf, std::span<const uint32_t> experts) {
  const ExpertPlace* const places = program_.waiting_for().experts.places;
  const bool is_one = program_.expert_input().num_tokens == 1;
  there_.clear();
  coming_.clear();
  for (const uint32_t expert : experts) (places[expert].gate ? there_ : coming_).push_back(expert);
  if (is_one && !there_.empty()) program_.apply(there_);
  while (!coming_.empty()) {
    there_.clear();
    if (!take_what_comes(*shelf)) return has_begun_ = false;
    if (is_one) program_.apply(there_);
  }
  if (!is_one) program_.apply(experts);
  return true;
}

// Waits for one of those that are coming; takes all that are there then.
bool ExpertStops::take_what_comes(ExpertShelf& shelf) {
  std::optional<uint32_t> came;
  while (!(came = shelf.wait(coming_, IoClock::now() + kSlice)))
    if (shelf.has_failed() || program_.should_stop()) return false;
  for (; came; came = shelf.wait(coming_, IoClock::now())) {
    std::erase(coming_, *came);
    there_.push_back(*came);
  }
  return true;
}

void ExpertStops::end() {
  program_.pass_on();
  has_begun_ = false;
}

}  // namespace apportion
