#include "ring.h"

#include <cerrno>

#if defined(__linux__) && __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#endif

namespace apportion {

#if defined(IORING_FEAT_EXT_ARG) && defined(SYS_io_uring_setup)

namespace {

// Waiting with a time-out, and no completion that is lost: Linux 5.11.
constexpr unsigned kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SINGLE_MMAP;

// Completions are worked off when we ask for them, not in the middle of somebody's computing: Linux 6.1.
#if defined(IORING_SETUP_DEFER_TASKRUN)
constexpr unsigned kQuiet = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
#else
constexpr unsigned kQuiet = 0;
#endif

int set_up(unsigned num_entries, io_uring_params& params) {
  for (const unsigned flags : {kQuiet, 0u}) {
    params = {};
    params.flags = flags | IORING_SETUP_CLAMP;
    const long descriptor = syscall(SYS_io_uring_setup, num_entries, &params);
    if (descriptor >= 0) return int(descriptor);
    if (errno != EINVAL) break;
  }
  return -1;
}

void* map(int descriptor, size_t nbytes, uint64_t offset) {
  void* mapped = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, off_t(offset));
  return mapped == MAP_FAILED ? nullptr : mapped;
}

uint32_t acquire(uint32_t* word) { return std::atomic_ref<uint32_t>(*word).load(std::memory_order_acquire); }
void publish(uint32_t* word, uint32_t value) {
  std::atomic_ref<uint32_t>(*word).store(value, std::memory_order_release);
}

}  // namespace

struct Ring::Maps {
  int descriptor = -1;
  size_t rings_nbytes = 0, entries_nbytes = 0;
  uint8_t* rings = nullptr;
  io_uring_sqe* entries = nullptr;
  io_uring_cqe* completions = nullptr;
  uint32_t *head = nullptr, *tail = nullptr, *order = nullptr;  // of the calls
  uint32_t *done_head = nullptr, *done_tail = nullptr;          // of the completions
  uint32_t mask = 0, done_mask = 0;

  ~Maps() {
    if (entries) munmap(entries, entries_nbytes);
    if (rings) munmap(rings, rings_nbytes);
    if (descriptor >= 0) close(descriptor);
  }

  bool find(const io_uring_params& params) {
    const size_t calls = params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                 done = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    rings_nbytes = calls > done ? calls : done;
    entries_nbytes = params.sq_entries * sizeof(io_uring_sqe);
    rings = static_cast<uint8_t*>(map(descriptor, rings_nbytes, IORING_OFF_SQ_RING));
    entries = static_cast<io_uring_sqe*>(map(descriptor, entries_nbytes, IORING_OFF_SQES));
    if (!rings || !entries) return false;
    head = word(params.sq_off.head);
    tail = word(params.sq_off.tail);
    order = word(params.sq_off.array);
    mask = *word(params.sq_off.ring_mask);
    done_head = word(params.cq_off.head);
    done_tail = word(params.cq_off.tail);
    done_mask = *word(params.cq_off.ring_mask);
    completions = reinterpret_cast<io_uring_cqe*>(rings + params.cq_off.cqes);
    return true;
  }

 private:
  uint32_t* word(size_t offset) { return reinterpret_cast<uint32_t*>(rings + offset); }
};

std::unique_ptr<Ring> Ring::make(unsigned num_entries, int& error) {
  std::unique_ptr<Ring> ring(new Ring);
  io_uring_params params;
  ring->maps_->descriptor = set_up(num_entries, params);
  if (ring->maps_->descriptor < 0 || ((params.features & kNeeded) != kNeeded && (errno = ENOSYS)) ||
      !ring->maps_->find(params)) {
    error = errno;
    return nullptr;
  }
  return ring;
}

void Ring::read(const Call& call, uint64_t tag) {
  Maps& maps = *maps_;
  const uint32_t tail = *maps.tail, index = tail & maps.mask;
  io_uring_sqe& entry = maps.entries[index];
  entry = {};
  // Not from a registered buffer: pinning huge pages costs little, and memory that is registered cannot be given back.
  entry.opcode = IORING_OP_READ;
  entry.fd = call.descriptor;
  entry.off = call.offset;
  entry.addr = reinterpret_cast<uint64_t>(call.place);
  entry.len = uint32_t(call.nbytes);
  entry.user_data = tag;
  maps.order[index] = index;
  publish(maps.tail, tail + 1);
}

int Ring::enter(std::chrono::nanoseconds timeout) {
  Maps& maps = *maps_;
  const uint32_t num_noted = *maps.tail - acquire(maps.head);
  __kernel_timespec limit{timeout.count() / 1'000'000'000, timeout.count() % 1'000'000'000};
  io_uring_getevents_arg argument{};
  argument.sigmask_sz = _NSIG / 8;
  argument.ts = reinterpret_cast<uint64_t>(&limit);
  const long result = syscall(SYS_io_uring_enter, maps.descriptor, num_noted, 1,
                              IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
  return result >= 0 || errno == ETIME || errno == EINTR ? 0 : errno;
}

std::optional<Ring::Completion> Ring::reap() {
  Maps& maps = *maps_;
  const uint32_t head = *maps.done_head;
  if (head == acquire(maps.done_tail)) return std::nullopt;
  const io_uring_cqe& completion = maps.completions[head & maps.done_mask];
  const Completion copy{completion.user_data, completion.res};
  publish(maps.done_head, head + 1);
  return copy;
}

#else

struct Ring::Maps {};

std::unique_ptr<Ring> Ring::make(unsigned, int& error) {
  error = ENOSYS;
  return nullptr;
}

void Ring::read(const Call&, uint64_t) {}
int Ring::enter(std::chrono::nanoseconds) { return ENOSYS; }
std::optional<Ring::Completion> Ring::reap() { return std::nullopt; }

#endif

Ring::Ring() : maps_(std::make_unique<Maps>()) {}
Ring::~Ring() = default;

}  // namespace apportion
