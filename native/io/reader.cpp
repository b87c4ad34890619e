#include "reader.h"

#include <unistd.h>

namespace apportion {

std::unique_ptr<Reader> Reader::start(ReaderOptions options) {
  std::unique_ptr<Reader> reader(new Reader);
  reader->process_ = int(getpid());
  reader->stuck_after_ =
      std::chrono::duration_cast<IoClock::duration>(std::chrono::duration<double>(options.stuck_after_s));
  reader->board_ = std::make_shared<Board>(BoardLimits{options.depth, options.chunk, reader->stuck_after_},
                                           std::move(options.faults));
  if (options.try_ring) {
    reader->backend_ = start_ring(reader->board_, options.depth, reader->ring_refusal_);
    reader->uses_ring_ = reader->backend_ != nullptr;
  }
  if (!reader->backend_) reader->backend_ = start_threads(reader->board_, std::min(options.depth, options.num_threads));
  return reader->backend_ ? std::move(reader) : nullptr;
}

Ticket Reader::submit(std::span<const Part> parts, Priority priority, std::shared_ptr<Memory> memory) {
  const Ticket ticket = board_->submit(parts, priority, std::move(memory));
  if (backend_) backend_->wake();
  return ticket;
}

bool Reader::promote(Ticket ticket) {
  const bool promoted = board_->promote(ticket);
  if (promoted && backend_) backend_->wake();  // as a prefetch it may have had to wait
  return promoted;
}

bool Reader::close() {
  if (!backend_) return true;
  if (process_ != int(getpid())) {  // a child of fork has none of the threads that it could wait for
    (void)backend_.release();
    return true;
  }
  board_->close();
  const bool drained = board_->drain(IoClock::now() + stuck_after_);
  backend_->stop(drained);
  backend_.reset();
  if (drained) board_->close_files();
  return drained;
}

}  // namespace apportion
