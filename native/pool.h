// A pool of threads that share loops. Workers spin for a while after a loop, then sleep until the next one.
//
// A loop is cut into pieces, and whoever comes claims some of those that are left. What decides that is one word:
//
//   |  63 .. 44 number of the loop  |  43 singly  |  42 .. 32 threads that may take part  |  31 .. 0 pieces left  |
//
// It changes at once, so a claim never falls into another loop than the one that was looked at. The caller takes part
// and in the end waits only for pieces that others have claimed: who sleeps, or has no processor, delays nothing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <type_traits>

namespace apportion {

// How a loop's pieces are claimed: many at first, when they are alike, since claims cost time; or one by one.
enum class Claims { shrinking, single };

class Pool {
 public:
  // The one pool of this process. A child of fork gets a new one.
  static Pool& shared();

  // Calls body(begin, end, worker) for runs of whole multiples of `grain` indices (the last may be shorter) that
  // together cover 0..count-1, on up to `threads` threads; `worker` < `threads` tells concurrent calls apart. Returns
  // when all are done. While another thread uses the pool, the caller does all the work alone. The body must not throw.
  template <class Body>
  void run(size_t count, size_t grain, unsigned threads, Claims claims, Body&& body) {
    if (threads <= 1 || count <= grain) {
      if (count) body(size_t(0), count, 0u);
      return;
    }
    const auto call = [](void* context, size_t begin, size_t end, unsigned worker) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, worker);
    };
    run_loop({call, const_cast<void*>(static_cast<const void*>(&body)), count, grain}, threads, claims);
  }

  template <class Body>
  void run(size_t count, size_t grain, unsigned threads, Body&& body) {
    run(count, grain, threads, Claims::shrinking, body);
  }

 private:
  struct Loop {
    void (*call)(void*, size_t, size_t, unsigned);
    void* context;
    size_t count, grain;

    size_t num_pieces() const { return (count + grain - 1) / grain; }
  };

  // So many pieces, of so many that were left.
  struct Claim {
    size_t taken, left;
  };

  void run_loop(Loop loop, unsigned threads, Claims claims);
  void open(const Loop& loop, unsigned threads, Claims claims);
  Claim claim(unsigned worker);
  size_t take_pieces(const Loop& loop, Claim claimed, unsigned worker);
  void add_workers(unsigned wanted);
  void work(unsigned worker);
  uint64_t number() const { return state_.load(std::memory_order_acquire) >> kNumberShift; }
  uint64_t await_loop_after(uint64_t seen);
  void sleep_after(uint64_t seen);

  static constexpr int kNumberShift = 44, kThreadsShift = 32;
  static constexpr uint64_t kMostThreads = (1 << 11) - 1, kSingly = uint64_t(1) << 43;
  static constexpr size_t kLine = 64;  // what processors pass to one another

  alignas(kLine) std::atomic<uint64_t> state_{0};
  Loop loop_{};                                     // beside the word: both come in one piece
  alignas(kLine) std::atomic<size_t> num_done_{0};  // pieces that workers have done
  alignas(kLine) std::atomic<uint32_t> num_asleep_{0};
  std::atomic<uint32_t> num_calls_{0};  // what they sleep on
  std::mutex in_use_;
  unsigned num_workers_ = 0;
};

// Multiply-adds, or numbers touched, that are not worth waking a thread for.
inline constexpr size_t kFewNumbers = 1 << 14;

// A grain that gives each thread several runs, for balance.
inline size_t even_grain(size_t count, unsigned threads, size_t runs_per_thread = 4) {
  return std::max<size_t>(1, count / (size_t(threads) * runs_per_thread));
}

}  // namespace apportion
