#include "pool.h"

#include <chrono>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace apportion {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::microseconds(200);  // more than Python needs between two calls
// More than a disk needs for an expert: a worker that has to be woken misses most of the computing with it.
constexpr auto kLongPatience = std::chrono::milliseconds(2);

Pool* the_pool = nullptr;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Whether it becomes true before long. A clock decides how long that is: processors pause for 10 ns, or for 50.
template <class Condition>
bool spin_until(Condition&& condition) {
  const Clock::time_point end = Clock::now() + kPatience;
  do {
    for (int i = 0; i < 64; ++i) {
      if (condition()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return false;
}

// The same, and whoever else wants the processor has it meanwhile.
template <class Condition>
bool yield_until(Condition&& condition) {
  const Clock::time_point end = Clock::now() + kLongPatience;
  do {
    if (condition()) return true;
    std::this_thread::yield();
  } while (Clock::now() < end);
  return false;
}

void replace_pool() { the_pool = new Pool; }  // the old one's threads do not exist in a forked child

Pool* first_pool() {
  the_pool = new Pool;  // never destroyed: workers may still wait in it while the process ends
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, replace_pool);
#endif
  return the_pool;
}

}  // namespace

Pool& Pool::shared() {
  static Pool* const first = first_pool();
  (void)first;
  return *the_pool;
}

void Pool::run_loop(Loop loop, unsigned threads, Claims claims) {
  std::unique_lock lock(in_use_, std::try_to_lock);
  if (!lock.owns_lock()) return loop.call(loop.context, 0, loop.count, 0);
  add_workers(threads - 1);
  loop.grain = std::max(loop.grain, (loop.count >> 31) + 1);  // the pieces' number fits its bits
  open(loop, threads, claims);
  const size_t others = loop.num_pieces() - take_pieces(loop, claim(0), 0);
  const auto all_done = [&] { return num_done_.load(std::memory_order_acquire) == others; };
  if (!spin_until(all_done))
    while (!all_done()) std::this_thread::yield();
}

void Pool::open(const Loop& loop, unsigned threads, Claims claims) {
  loop_ = loop;
  num_done_.store(0, std::memory_order_relaxed);
  state_.exchange((number() + 1) << kNumberShift | (claims == Claims::single ? kSingly : 0) |
                  uint64_t(threads) << kThreadsShift | loop.num_pieces());
  if (num_asleep_.load() == 0) return;
  num_calls_.fetch_add(1);
  num_calls_.notify_all();
}

Pool::Claim Pool::claim(unsigned worker) {
  uint64_t state = state_.load(std::memory_order_acquire);
  for (;;) {
    const uint64_t left = uint32_t(state), threads = (state >> kThreadsShift) & kMostThreads;
    if (left == 0 || worker >= threads) return {0, left};
    // One by one in the end, so that all end together.
    const uint64_t taken = state & kSingly ? 1 : std::max<uint64_t>(1, left / (threads + 1));
    if (state_.compare_exchange_weak(state, state - taken, std::memory_order_acq_rel, std::memory_order_acquire))
      return {taken, left};
  }
}

// The claimed pieces and all that can be claimed after them; how many that were.
size_t Pool::take_pieces(const Loop& loop, Claim claimed, unsigned worker) {
  const size_t num_pieces = loop.num_pieces();
  size_t done = 0;
  for (; claimed.taken; claimed = claim(worker)) {
    const size_t first = num_pieces - claimed.left, last = first + claimed.taken;
    loop.call(loop.context, first * loop.grain, std::min(last * loop.grain, loop.count), worker);
    done += claimed.taken;
  }
  return done;
}

void Pool::add_workers(unsigned wanted) {
  try {
    for (; num_workers_ < wanted; ++num_workers_)
      std::thread([this, worker = num_workers_ + 1] { work(worker); }).detach();
  } catch (...) {
    // The system refuses more threads; the loop runs on those that there are.
  }
}

void Pool::work(unsigned worker) {
  for (uint64_t seen = 0;;) {
    seen = await_loop_after(seen);
    const Claim claimed = claim(worker);
    if (!claimed.taken) continue;
    const Loop loop = loop_;  // it stays while pieces that were claimed are not reported
    const size_t done = take_pieces(loop, claimed, worker);
    num_done_.fetch_add(done, std::memory_order_release);
  }
}

uint64_t Pool::await_loop_after(uint64_t seen) {
  const auto has_come = [&] { return number() != seen; };
  while (!spin_until(has_come) && !yield_until(has_come)) sleep_after(seen);
  return number();
}

void Pool::sleep_after(uint64_t seen) {
  const uint32_t calls = num_calls_.load();
  num_asleep_.fetch_add(1);
  // Either this sees the next loop, or its caller sees that somebody sleeps.
  if (state_.load() >> kNumberShift == seen) num_calls_.wait(calls);
  num_asleep_.fetch_sub(1);
}

}  // namespace apportion
