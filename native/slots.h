// Memory that is obtained once and divided into equal slots: what weights are read into.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "pages.h"

namespace apportion {

// Anonymous memory, aligned to huge pages and in huge pages where the system gives them. Every byte of it has been
// written when it exists, so that reading into it never meets a page fault and the peak is known from the start.
class Memory {
 public:
  static constexpr size_t kPage = 4096;

  // Null where the system refuses. `nbytes` must be whole pages.
  static std::shared_ptr<Memory> obtain(size_t nbytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  size_t nbytes() const { return nbytes_; }

  // Whole pages: their memory goes back to the system, the addresses stay ours.
  void give_back(size_t first, size_t nbytes);
  // Obtains them again, as zeros. False where the system refuses.
  bool take_again(size_t first, size_t nbytes);

  // Bytes of all such memory in this process, now and at most.
  static size_t total_nbytes() { return total_.load(); }
  static size_t peak_nbytes() { return peak_.load(); }

 private:
  Memory(uint8_t* data, size_t nbytes) : data_(data), nbytes_(nbytes) {}
  static void count(size_t nbytes);
  void discount(size_t nbytes) { total_ -= nbytes; }

  static std::atomic<size_t> total_, peak_;

  uint8_t* data_;
  size_t nbytes_;
  std::atomic<size_t> given_back_{0};
};

// One use of a slot. The generation tells it from earlier and later uses of the same room.
struct Slot {
  uint32_t index;
  uint32_t generation;
};

// Equal slots in one Memory. A slot is taken, released, and may be given back to the system while it is free. Safe to
// use from several threads.
class SlotArena {
 public:
  // `stride` bytes a slot, whole pages.
  SlotArena(std::shared_ptr<Memory> memory, size_t stride);

  size_t stride() const { return stride_; }
  size_t capacity() const { return states_.size(); }
  size_t num_slots() const;  // those that have memory
  size_t num_free() const;   // of these

  std::optional<Slot> take();
  // False where the slot was released before.
  bool release(Slot slot);
  // Its bytes; empty where it was released.
  std::span<uint8_t> bytes(Slot slot) const;

  // Gives back up to `count` free slots, the last ones first; how many it were.
  size_t shrink(size_t count);
  // Gives up to `count` slots memory again; how many got it.
  size_t grow(size_t count);

  const std::shared_ptr<Memory>& memory() const { return memory_; }

 private:
  enum class State : uint8_t { free, taken, given_back };

  bool holds(Slot slot) const;

  std::shared_ptr<Memory> memory_;
  size_t stride_;
  mutable std::mutex mutex_;
  std::vector<State> states_;
  std::vector<uint32_t> generations_;
  size_t num_free_, num_given_back_ = 0;
};

}  // namespace apportion
