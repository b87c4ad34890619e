// A pool of threads that share loops. Workers spin briefly after a loop, then sleep until the next one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <type_traits>

namespace apportion {

class Pool {
 public:
  // The one pool of this process. A child of fork gets a new one.
  static Pool& shared();

  // Calls body(begin, end, worker) for runs of at most `grain` indices that together cover 0..count-1, on up to
  // `threads` threads; `worker` < `threads` tells concurrent calls apart. Returns when all are done. While another
  // thread uses the pool, the caller does all the work alone. The body must not throw.
  template <class Body>
  void run(size_t count, size_t grain, unsigned threads, Body&& body) {
    if (threads <= 1 || count <= grain) {
      if (count) body(size_t(0), count, 0u);
      return;
    }
    const auto call = [](void* context, size_t begin, size_t end, unsigned worker) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, worker);
    };
    run_loop({call, const_cast<void*>(static_cast<const void*>(&body)), count, grain, threads});
  }

 private:
  struct Loop {
    void (*call)(void*, size_t, size_t, unsigned);
    void* context;
    size_t count, grain;
    unsigned threads;
  };

  void run_loop(const Loop& loop);
  void add_workers(unsigned wanted);
  void work(unsigned worker);
  void take_runs(const Loop& loop, unsigned worker);

  static constexpr uint32_t kClosed = 1u << 31;

  std::mutex in_use_;
  unsigned num_workers_ = 0;
  Loop loop_{};
  std::atomic<size_t> next_{0};
  std::atomic<uint32_t> epoch_{0};          // counts loops; workers wait for it to change
  std::atomic<uint32_t> members_{kClosed};  // workers inside the loop; kClosed: nobody may enter
};

// A grain that gives each thread several runs, for balance.
inline size_t even_grain(size_t count, unsigned threads, size_t runs_per_thread = 4) {
  return std::max<size_t>(1, count / (size_t(threads) * runs_per_thread));
}

}  // namespace apportion
