// Reads by a few threads, each with one call at a time: for systems without a ring.
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "backend.h"

namespace apportion {

namespace {

int64_t make(const Call& call) {
  const ssize_t count = pread(call.descriptor, call.place, call.nbytes, off_t(call.offset));
  return count < 0 ? -errno : count;
}

void carry_out(ReadOp& op, FaultPort& faults) {
  for (;;) {
    Call call = op.next_call();
    const Fault fault = faults.meet(call);
    if (fault.delay.count()) std::this_thread::sleep_for(fault.delay);
    const Verdict verdict = op.advance(call, fault.error ? -fault.error : make(call));
    if (verdict == Verdict::done || verdict == Verdict::failed) return;
    if (verdict == Verdict::later) std::this_thread::sleep_for(op.pause);
  }
}

class ThreadBackend final : public Backend {
 public:
  // As many as the system gives.
  ThreadBackend(const std::shared_ptr<Board>& board, unsigned num_threads) {
    try {
      while (threads_.size() < num_threads)
        threads_.emplace_back([board] {
          while (ReadOp* op = board->take_or_wait()) {
            carry_out(*op, board->faults);
            board->finish(op);
          }
        });
    } catch (...) {
    }
  }

  bool empty() const { return threads_.empty(); }

  void wake() override {}  // they wait at the board itself

  void stop(bool drained) override {
    for (std::thread& thread : threads_) drained ? thread.join() : thread.detach();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Backend> start_threads(std::shared_ptr<Board> board, unsigned num_threads) {
  auto backend = std::make_unique<ThreadBackend>(board, num_threads);
  return backend->empty() ? nullptr : std::move(backend);
}

}  // namespace apportion
