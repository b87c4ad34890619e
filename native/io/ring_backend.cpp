// Reads by the kernel's ring: one thread hands them over and takes them back, and sleeps in between.
#include <cerrno>

#include "backend.h"
#include "ring.h"

#if defined(__linux__)
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <thread>
#endif

namespace apportion {

#if defined(__linux__)

namespace {

constexpr uint64_t kWakeTag = ~uint64_t(0);
constexpr auto kLong = std::chrono::hours(1);

// What the thread works with; it outlives the back end where a read is stuck.
class RingService {
 public:
  RingService(std::shared_ptr<Board> board, unsigned depth) : board_(std::move(board)), flights_(depth) {
    event_ = eventfd(0, EFD_CLOEXEC);
  }
  ~RingService() {
    if (event_ >= 0) close(event_);
  }

  // Runs until the board is closed and nothing is in flight. Says through `made` whether there is a ring: the thread
  // that makes it is the one that may use it.
  void run(std::promise<int>& made) {
    int error = event_ < 0 ? errno : 0;
    if (!error) ring_ = Ring::make(unsigned(flights_.size()) + 1, error);
    const bool usable = ring_ != nullptr;
    if (usable) listen();
    made.set_value(usable ? 0 : error);
    while (usable && !board_->idle_and_closed()) turn();
    ring_.reset();
  }

  void wake() {
    const uint64_t one = 1;
    if (!asleep_.exchange(false) || write(event_, &one, sizeof one) < 0) return;  // full: it wakes anyway
    // Where every processor computes, it would wait for a while before the disk has anything to do.
    std::this_thread::yield();
  }

 private:
  struct Flight {
    enum class Held : uint8_t { no, call, next_call };

    ReadOp* op = nullptr;
    Call call{};
    Fault fault;
    Held held = Held::no;
    IoClock::time_point due;
  };

  void turn() {
    release_held();
    for (Flight& flight : flights_) {
      if (flight.op) continue;
      if (!(flight.op = board_->take())) break;
      begin(flight);
    }
    asleep_ = true;
    if (!board_->has_work() && !board_->idle_and_closed() && ring_->enter(time_to_sleep()))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the kernel has too much to do just now
    asleep_ = false;
    while (const std::optional<Ring::Completion> completion = ring_->reap()) {
      if (completion->tag == kWakeTag)
        listen();
      else
        conclude(flights_[completion->tag], completion->result);
    }
  }

  // A read of the event that wake() writes is always on its way.
  void listen() { ring_->read({event_, reinterpret_cast<uint8_t*>(&woken_), sizeof woken_, 0, false}, kWakeTag); }

  void begin(Flight& flight) {
    flight.call = flight.op->next_call();
    flight.fault = board_->faults.meet(flight.call);
    if (flight.fault.delay.count())
      hold(flight, Flight::Held::call, flight.fault.delay);
    else
      issue(flight);
  }

  void issue(Flight& flight) {
    if (flight.fault.error)
      conclude(flight, -flight.fault.error);
    else
      ring_->read(flight.call, uint64_t(&flight - flights_.data()));
  }

  void conclude(Flight& flight, int64_t result) {
    switch (flight.op->advance(flight.call, result)) {
      case Verdict::again: return begin(flight);
      case Verdict::later: return hold(flight, Flight::Held::next_call, flight.op->pause);
      case Verdict::done:
      case Verdict::failed: board_->finish(std::exchange(flight.op, nullptr));
    }
  }

  void hold(Flight& flight, Flight::Held held, IoClock::duration pause) {
    flight.held = held;
    flight.due = IoClock::now() + pause;
  }

  void release_held() {
    for (Flight& flight : flights_) {
      if (flight.held == Flight::Held::no || flight.due > IoClock::now()) continue;
      std::exchange(flight.held, Flight::Held::no) == Flight::Held::call ? issue(flight) : begin(flight);
    }
  }

  std::chrono::nanoseconds time_to_sleep() const {
    const IoClock::time_point now = IoClock::now();
    IoClock::time_point wake = now + kLong;
    for (const Flight& flight : flights_)
      if (flight.held != Flight::Held::no) wake = std::min(wake, flight.due);
    return std::max(wake - now, IoClock::duration(0));
  }

  std::shared_ptr<Board> board_;
  std::vector<Flight> flights_;
  std::unique_ptr<Ring> ring_;
  std::atomic<bool> asleep_{false};
  int event_ = -1;
  uint64_t woken_ = 0;
};

class RingBackend final : public Backend {
 public:
  RingBackend(std::shared_ptr<RingService> service, std::thread thread)
      : service_(std::move(service)), thread_(std::move(thread)) {}

  void wake() override { service_->wake(); }

  void stop(bool drained) override {
    wake();
    drained ? thread_.join() : thread_.detach();
  }

 private:
  std::shared_ptr<RingService> service_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Backend> start_ring(std::shared_ptr<Board> board, unsigned depth, int& error) {
  auto service = std::make_shared<RingService>(std::move(board), depth);
  std::promise<int> made;
  std::thread thread;
  try {
    thread = std::thread([service, &made] { service->run(made); });
  } catch (...) {
    error = EAGAIN;
    return nullptr;
  }
  error = made.get_future().get();
  if (!error) return std::make_unique<RingBackend>(std::move(service), std::move(thread));
  thread.join();
  return nullptr;
}

#else

std::unique_ptr<Backend> start_ring(std::shared_ptr<Board>, unsigned, int& error) {
  error = ENOSYS;
  return nullptr;
}

#endif

}  // namespace apportion
