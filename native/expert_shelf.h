// A layer's experts in slots of an arena, as they come from files and go.
//
//            start                  has come
//   away ────────────► coming ────────────────► here ──── give_up ───► away
//                         │                     (in the table)
//                         └─ failed ─► away; its slot is free once nothing writes to it any more
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "expert_table.h"
#include "io/reader.h"
#include "load_times.h"
#include "slots.h"

namespace apportion {

// One thread at a time works with it; others may ask what is here and what was counted.
class ExpertShelf {
 public:
  // Where an expert is in files and in a slot; `at` of a part and `starts` count from the slot's first byte.
  struct Unit {
    struct Stretch {
      uint32_t file;
      uint64_t offset;
      size_t nbytes, at;
    };
    std::vector<Stretch> stretches;
    std::array<size_t, 3> starts;  // of gate, up and down
  };

  enum class State : uint8_t { away, coming, here };
  enum class Started : uint8_t { yes, no_slot, closed };

  struct Uses {
    uint64_t hits = 0, misses = 0;
  };

  struct Failure {
    uint32_t expert;
    Outcome outcome;
  };

  // Units that lie within their files, slots and the arena, one for each of the table's experts.
  ExpertShelf(std::shared_ptr<ExpertTable> table, std::shared_ptr<SlotArena> arena, std::shared_ptr<Reader> reader,
              std::shared_ptr<LoadTimes> times, std::vector<Unit> units);
  // What is still coming keeps its slot.
  ~ExpertShelf();
  ExpertShelf(const ExpertShelf&) = delete;
  ExpertShelf& operator=(const ExpertShelf&) = delete;

  size_t count() const { return units_.size(); }
  State state(size_t expert) const;
  size_t num_held() const { return num_held_; }  // coming or here
  size_t num_coming() const { return num_coming_; }
  // Asking for it needs no waiting: it is here, or all of it has been read.
  bool is_ready(size_t expert) const;

  // Tokens use these: each counts as found or not, and what is coming is waited for from now on. How many are here;
  // adds those that are away to `missing`.
  size_t ask(std::span<const uint32_t> experts, std::vector<uint32_t>& missing);
  std::vector<Uses> uses() const;

  // From here on `bring` may fill so many slots, and have these leave for it, in this order.
  void let_go(size_t num_slots, std::vector<uint32_t> order);
  // A token uses these: they are asked for, and what is away begins to come. How many are here; adds those that left
  // for it to `left`. None, and nothing has happened, where it would take more than what was let go.
  std::optional<size_t> bring(std::span<const uint32_t> experts, std::vector<uint32_t>& left);

  // Begins to read an expert that is away.
  Started start(size_t expert, Priority priority);
  // One that is here.
  void give_up(size_t expert);

  // Returns when one of those that are coming is here, and which. None at `until`, and at once where none is coming or
  // one does not come.
  std::optional<uint32_t> wait(std::span<const uint32_t> experts, IoClock::time_point until);
  bool has_failed() const { return bool(failure_); }
  // The one that did not come since it was asked last.
  std::optional<Failure> failure() { return std::exchange(failure_, std::nullopt); }

  // Takes in all that has come without being waited for.
  void take_in();

  // Frees slots of failed reads that nothing writes to any more; whether there are others.
  bool settle();
  // After the reader has forgotten all reads: gives up what was coming, and says what that was.
  std::vector<uint32_t> recover();

 private:
  struct Held {
    State state = State::away;
    bool is_awaited = false;
    Slot slot{};
    Ticket ticket = 0;
    IoClock::time_point asked{};
  };
  struct Failed {
    Ticket ticket;
    Slot slot;
  };

  bool find_leaving(std::span<const uint32_t> experts);
  void set_state(size_t expert, State state);
  void take(size_t expert, const Outcome& outcome);

  const std::shared_ptr<ExpertTable> table_;
  const std::shared_ptr<SlotArena> arena_;
  const std::shared_ptr<Reader> reader_;
  const std::shared_ptr<LoadTimes> times_;
  const std::vector<Unit> units_;
  std::vector<Held> held_;
  mutable std::mutex mutex_;  // of states and uses
  std::vector<Uses> uses_;
  size_t num_held_ = 0, num_coming_ = 0;
  std::vector<Failed> failed_;
  std::optional<Failure> failure_;
  size_t num_slots_ = 0;             // let go
  std::vector<uint32_t> may_leave_;  // in this order
  std::vector<uint32_t> leaving_, missing_;
  std::vector<Ticket> tickets_;
  std::vector<Part> parts_;
};

}  // namespace apportion
