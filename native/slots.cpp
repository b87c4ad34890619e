#include "slots.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

namespace apportion {

namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;

// `nbytes` of address space that starts at a huge page: more is mapped, and both ends are cut off.
uint8_t* map_aligned(size_t nbytes) {
  const size_t room = nbytes + kHugePage;
  void* mapped = mmap(nullptr, room, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  uint8_t* begin = static_cast<uint8_t*>(mapped);
  const size_t skip = (kHugePage - uintptr_t(begin) % kHugePage) % kHugePage;
  if (skip) munmap(begin, skip);
  munmap(begin + skip + nbytes, room - skip - nbytes);
  return begin + skip;
}

// Has every page there. False where the system has no memory left.
bool populate(uint8_t* begin, size_t nbytes) {
#if defined(MADV_POPULATE_WRITE)
  int failed;
  do failed = madvise(begin, nbytes, MADV_POPULATE_WRITE);
  while (failed && errno == EINTR);
  if (!failed) return true;
  if (errno != EINVAL) return false;
#endif
  for (size_t at = 0; at < nbytes; at += Memory::kPage) reinterpret_cast<volatile uint8_t*>(begin)[at] = 0;
  return true;
}

}  // namespace

std::atomic<size_t> Memory::total_{0}, Memory::peak_{0};

std::shared_ptr<Memory> Memory::obtain(size_t nbytes) {
  if (!nbytes || nbytes % kPage || nbytes > PTRDIFF_MAX - kHugePage) return nullptr;
  uint8_t* data = map_aligned(nbytes);
  if (!data) return nullptr;
#if defined(MADV_HUGEPAGE)
  madvise(data, nbytes, MADV_HUGEPAGE);  // a system without them gives small pages
#endif
  if (!populate(data, nbytes)) {
    munmap(data, nbytes);
    return nullptr;
  }
  count(nbytes);
  return std::shared_ptr<Memory>(new Memory(data, nbytes));
}

Memory::~Memory() {
  munmap(data_, nbytes_);
  discount(nbytes_ - given_back_);
}

void Memory::count(size_t nbytes) {
  const size_t now = total_ += nbytes;
  for (size_t peak = peak_; now > peak && !peak_.compare_exchange_weak(peak, now);) {
  }
}

void Memory::give_back(size_t first, size_t nbytes) {
  madvise(data_ + first, nbytes, MADV_DONTNEED);
  given_back_ += nbytes;
  discount(nbytes);
}

bool Memory::take_again(size_t first, size_t nbytes) {
  if (!populate(data_ + first, nbytes)) {
    madvise(data_ + first, nbytes, MADV_DONTNEED);
    return false;
  }
  given_back_ -= nbytes;
  count(nbytes);
  return true;
}

SlotArena::SlotArena(std::shared_ptr<Memory> memory, size_t stride)
    : memory_(std::move(memory)),
      stride_(stride),
      states_(memory_->nbytes() / stride, State::free),
      generations_(states_.size(), 0),
      num_free_(states_.size()) {}

size_t SlotArena::num_slots() const {
  const std::lock_guard lock(mutex_);
  return states_.size() - num_given_back_;
}

size_t SlotArena::num_free() const {
  const std::lock_guard lock(mutex_);
  return num_free_;
}

bool SlotArena::holds(Slot slot) const {
  return slot.index < states_.size() && states_[slot.index] == State::taken &&
         generations_[slot.index] == slot.generation;
}

std::optional<Slot> SlotArena::take() {
  const std::lock_guard lock(mutex_);
  const auto found = std::find(states_.begin(), states_.end(), State::free);
  if (found == states_.end()) return std::nullopt;
  *found = State::taken;
  --num_free_;
  const uint32_t index = uint32_t(found - states_.begin());
  return Slot{index, generations_[index]};
}

bool SlotArena::release(Slot slot) {
  const std::lock_guard lock(mutex_);
  if (!holds(slot)) return false;
  states_[slot.index] = State::free;
  ++generations_[slot.index];
  ++num_free_;
  return true;
}

std::span<uint8_t> SlotArena::bytes(Slot slot) const {
  const std::lock_guard lock(mutex_);
  if (!holds(slot)) return {};
  return {memory_->data() + slot.index * stride_, stride_};
}

size_t SlotArena::shrink(size_t count) {
  const std::lock_guard lock(mutex_);
  size_t done = 0;
  for (size_t index = states_.size(); index-- > 0 && done < count;) {
    if (states_[index] != State::free) continue;
    memory_->give_back(index * stride_, stride_);
    states_[index] = State::given_back;
    ++done;
  }
  num_free_ -= done;
  num_given_back_ += done;
  return done;
}

size_t SlotArena::grow(size_t count) {
  const std::lock_guard lock(mutex_);
  size_t done = 0;
  for (size_t index = 0; index < states_.size() && done < count; ++index) {
    if (states_[index] != State::given_back) continue;
    if (!memory_->take_again(index * stride_, stride_)) break;
    states_[index] = State::free;
    ++done;
  }
  num_free_ += done;
  num_given_back_ -= done;
  return done;
}

}  // namespace apportion
