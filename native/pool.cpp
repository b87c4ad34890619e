#include "pool.h"

#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace apportion {

namespace {

constexpr int kSpins = 4000;  // about 0.1 ms: longer than Python needs between two calls

Pool* the_pool = nullptr;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
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

void Pool::run_loop(const Loop& loop) {
  std::unique_lock lock(in_use_, std::try_to_lock);
  if (!lock.owns_lock()) return loop.call(loop.context, 0, loop.count, 0);
  add_workers(loop.threads - 1);
  loop_ = loop;
  next_.store(0, std::memory_order_relaxed);
  members_.store(0, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  take_runs(loop, 0);
  // Whoever has not entered by now is not waited for: a sleeping worker never delays a loop.
  members_.fetch_or(kClosed, std::memory_order_acq_rel);
  for (int spins = 0; members_.load(std::memory_order_acquire) != kClosed; ++spins)
    spins < kSpins ? relax() : std::this_thread::yield();
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
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (epoch_.load(std::memory_order_acquire) == seen)
      ++spins < kSpins ? relax() : epoch_.wait(seen, std::memory_order_acquire);
    seen = epoch_.load(std::memory_order_acquire);
    uint32_t members = members_.load(std::memory_order_acquire);
    while (!(members & kClosed) && !members_.compare_exchange_weak(members, members + 1, std::memory_order_acq_rel)) {
    }
    if (members & kClosed) continue;
    // Inside, the loop cannot change; it may be a later one than `seen`, which is as good.
    if (worker < loop_.threads) take_runs(loop_, worker);
    members_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

void Pool::take_runs(const Loop& loop, unsigned worker) {
  for (;;) {
    const size_t begin = next_.fetch_add(loop.grain, std::memory_order_relaxed);
    if (begin >= loop.count) return;
    loop.call(loop.context, begin, std::min(begin + loop.grain, loop.count), worker);
  }
}

}  // namespace apportion
