#include "bind_memory.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "io/reader.h"
#include "slots.h"
#include "unlocked.h"
#include "views.h"

namespace nb = nanobind;

namespace apportion {

namespace {

// --- arenas ---

using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>;

class PyArena {
 public:
  PyArena(size_t stride, size_t count) {
    require(stride && stride % Memory::kPage == 0, "slots must be whole pages");
    require(count && count <= UINT32_MAX && count <= PTRDIFF_MAX / stride, "the number of slots is out of range");
    std::shared_ptr<Memory> memory;
    {
      Unlocked unlocked;
      memory = Memory::obtain(stride * count);
    }
    if (!memory) throw std::bad_alloc();
    arena_ = std::make_shared<SlotArena>(std::move(memory), stride);
  }

  const std::shared_ptr<SlotArena>& shared() const {
    require(arena_ != nullptr, "the arena is closed");
    return arena_;
  }
  SlotArena& arena() const { return *shared(); }

  nb::object take() const {
    const std::optional<Slot> slot = arena().take();
    if (!slot) return nb::none();
    return nb::make_tuple(slot->index, slot->generation);
  }

  bool release(uint32_t index, uint32_t generation) const { return arena().release({index, generation}); }

  // The array keeps the memory, not the slot.
  Bytes view(uint32_t index, uint32_t generation) const {
    const std::span<uint8_t> bytes = arena().bytes({index, generation});
    require(!bytes.empty(), "the slot was released");
    auto* memory = new std::shared_ptr<Memory>(arena().memory());
    const nb::capsule owner(memory, [](void* p) noexcept { delete static_cast<std::shared_ptr<Memory>*>(p); });
    return Bytes(bytes.data(), {bytes.size()}, owner);
  }

  size_t shrink(size_t count) const {
    SlotArena& arena = this->arena();
    Unlocked unlocked;
    return arena.shrink(count);
  }

  size_t grow(size_t count) const {
    SlotArena& arena = this->arena();
    Unlocked unlocked;
    return arena.grow(count);
  }

  size_t num_users() const { return arena_ ? size_t(arena_->memory().use_count() + arena_.use_count()) - 2 : 0; }
  void close() { arena_.reset(); }

 private:
  std::shared_ptr<SlotArena> arena_;
};

// --- the reader ---

Fault fault_of(const nb::tuple& rule) {
  Fault fault;
  fault.first = nb::cast<uint64_t>(rule[0]);
  fault.count = nb::cast<uint64_t>(rule[1]);
  fault.error = nb::cast<int>(rule[2]);
  fault.cut = nb::cast<bool>(rule[3]);
  fault.delay = std::chrono::nanoseconds(int64_t(nb::cast<double>(rule[4]) * 1e9));
  return fault;
}

const Source& source_of(Reader& reader, uint32_t file) {
  const Source* source = reader.board().source(file);
  require(source, "no file was opened under this number");
  return *source;
}

class PyReader {
 public:
  PyReader(bool try_ring, unsigned depth, unsigned num_threads, size_t chunk, double stuck_after_s,
           const std::vector<nb::tuple>& faults) {
    require(depth >= 1 && depth <= 1024, "depth must be from 1 to 1024");
    require(num_threads >= 1 && num_threads <= 1024, "threads must be from 1 to 1024");
    require(chunk && chunk % kBlock == 0, "chunks must be whole blocks of 4096 bytes");
    require(stuck_after_s > 0 && stuck_after_s <= 1e6, "stuck_after_s is out of range");
    ReaderOptions options{try_ring, depth, num_threads, chunk, stuck_after_s, {}};
    for (const nb::tuple& rule : faults) options.faults.push_back(fault_of(rule));
    Unlocked unlocked;
    reader_ = Reader::start(std::move(options));
    if (!reader_) refuse("the system gives no thread to read with");
  }

  const std::shared_ptr<Reader>& shared() const { return reader_; }

  bool uses_ring() const { return reader_->uses_ring(); }
  int ring_refusal() const { return reader_->ring_refusal(); }

  // (file, 0), or (0, errno).
  nb::tuple open(const std::string& path, bool direct) const {
    int error = 0;
    std::unique_ptr<Source> source;
    {
      Unlocked unlocked;
      source = Source::open(path, direct, error);
    }
    return source ? nb::make_tuple(reader_->board().add(std::move(source)), 0) : nb::make_tuple(0, error);
  }

  // (device, inode, bytes, modified in ns, errno of direct reading)
  nb::tuple facts(uint32_t file) const {
    const Source& source = this->source(file);
    const FileFacts& facts = source.facts();
    return nb::make_tuple(facts.device, facts.inode, facts.nbytes, facts.modified_ns, source.refusal());
  }

  Ticket submit(const PyArena& arena_, uint32_t index, uint32_t generation, const std::vector<nb::tuple>& parts,
                bool prefetch) const {
    const SlotArena& arena = arena_.arena();
    const std::span<uint8_t> slot = arena.bytes({index, generation});
    require(!slot.empty(), "the slot was released");
    std::vector<Part> checked;
    for (const nb::tuple& part : parts) checked.push_back(part_of(part, slot));
    const std::shared_ptr<Memory> memory = arena.memory();
    Unlocked unlocked;
    const Ticket ticket = reader_->submit(checked, prefetch ? Priority::prefetch : Priority::demand, memory);
    if (!ticket) refuse("the reader is closed");
    return ticket;
  }

  // (ticket, cause, errno, file, offset, bytes wanted, bytes there, calls) of the first outcome, or None.
  nb::object wait(const std::vector<Ticket>& tickets, double timeout_s) const {
    const IoClock::time_point until = IoClock::now() + std::chrono::nanoseconds(int64_t(timeout_s * 1e9));
    for (;;) {
      for (const Ticket ticket : tickets)
        if (!reader_->board().knows(ticket)) refuse("no read is under way with the ticket " + std::to_string(ticket));
      // In slices, so that Ctrl-C is heard.
      const IoClock::time_point slice = std::min(until, IoClock::now() + std::chrono::milliseconds(100));
      std::optional<Outcome> outcome;
      {
        Unlocked unlocked;
        outcome = reader_->board().wait_any(tickets, slice);
      }
      if (outcome) return told(*outcome);
      if (IoClock::now() >= until) return nb::none();
      if (PyErr_CheckSignals()) throw nb::python_error();
    }
  }

  bool ready(Ticket ticket) const { return reader_->board().ready(ticket); }
  bool cancel(Ticket ticket) const { return reader_->board().cancel(ticket); }
  bool promote(Ticket ticket) const { return reader_->promote(ticket); }
  bool settled(Ticket ticket) const { return reader_->board().settled(ticket); }

  bool forget_all(double timeout_s) const {
    const IoClock::time_point until = IoClock::now() + std::chrono::nanoseconds(int64_t(timeout_s * 1e9));
    Unlocked unlocked;
    return reader_->board().forget_all(until);
  }

  nb::dict stats() const {
    const ReadStats stats = reader_->board().stats();
    nb::dict told;
    told["num_in_flight"] = stats.num_in_flight;
    told["num_reads"] = stats.num_reads;
    told["num_prefetches"] = stats.num_prefetches;
    told["num_cancelled"] = stats.num_cancelled;
    told["num_failed"] = stats.num_failed;
    told["num_calls"] = stats.num_calls;
    told["num_retries"] = stats.num_retries;
    told["nbytes_wanted"] = stats.nbytes_wanted;
    told["nbytes_read"] = stats.nbytes_read;
    told["nbytes_buffered"] = stats.nbytes_buffered;
    told["reading_s"] = std::chrono::duration<double>(stats.reading).count();
    return told;
  }

  bool close() const {
    Unlocked unlocked;
    return reader_->close();
  }

 private:
  const Source& source(uint32_t file) const { return source_of(*reader_, file); }

  // (file, offset, bytes, where in the slot)
  Part part_of(const nb::tuple& part, std::span<uint8_t> slot) const {
    const uint32_t file = nb::cast<uint32_t>(part[0]);
    const uint64_t offset = nb::cast<uint64_t>(part[1]), nbytes = nb::cast<uint64_t>(part[2]),
                   at = nb::cast<uint64_t>(part[3]);
    check_stretch(*reader_, file, offset, nbytes, at, slot.size());
    return {file, offset, size_t(nbytes), slot.data() + at};
  }

  std::shared_ptr<Reader> reader_;
};

}  // namespace

std::shared_ptr<SlotArena> arena_from(nb::handle arena) { return nb::cast<const PyArena&>(arena).shared(); }
std::shared_ptr<Reader> reader_from(nb::handle reader) { return nb::cast<const PyReader&>(reader).shared(); }

nb::tuple told(const Outcome& outcome) {
  static constexpr const char* kCauses[] = {"", "system", "truncated", "changed", "stuck", "closed"};
  const Failure& failure = outcome.failure;
  return nb::make_tuple(outcome.ticket, kCauses[size_t(failure.cause)], failure.error, outcome.file, outcome.offset,
                        outcome.nbytes, failure.have, outcome.num_calls);
}

void check_stretch(Reader& reader, uint32_t file, uint64_t offset, uint64_t nbytes, uint64_t at, size_t slot_nbytes) {
  const uint64_t file_nbytes = source_of(reader, file).facts().nbytes;
  require(offset <= file_nbytes && nbytes <= file_nbytes - offset, "the part lies outside its file");
  require(at % kBlock == 0, "a part must begin at a block of its slot");
  const uint64_t room = block_end(offset + nbytes) - block_begin(offset);
  require(at <= slot_nbytes && room <= slot_nbytes - at, "the part does not fit its slot");
}

void bind_memory(nb::module_& m) {
  m.attr("BLOCK_NBYTES") = kBlock;
  m.def("arena_nbytes", &Memory::total_nbytes, "Bytes of all arenas of this process.");
  m.def("arena_peak_nbytes", &Memory::peak_nbytes, "The most that arena_nbytes was.");
  nb::class_<PyArena>(m, "Arena", "Equal slots in memory that is obtained once.")
      .def(nb::init<size_t, size_t>(), nb::arg("stride"), nb::arg("count"))
      .def("take", &PyArena::take, "(index, generation) of a free slot, or None.")
      .def("release", &PyArena::release)
      .def("view", &PyArena::view)
      .def("shrink", &PyArena::shrink)
      .def("grow", &PyArena::grow)
      .def_prop_ro("num_slots", [](const PyArena& arena) { return arena.arena().num_slots(); })
      .def_prop_ro("num_free", [](const PyArena& arena) { return arena.arena().num_free(); })
      .def_prop_ro("num_users", &PyArena::num_users, "Arrays and reads that hold its memory.")
      .def("close", &PyArena::close);
  nb::class_<PyReader>(m, "Reader", "Asynchronous reads into arenas.")
      .def(nb::init<bool, unsigned, unsigned, size_t, double, const std::vector<nb::tuple>&>(), nb::arg("try_ring"),
           nb::arg("depth"), nb::arg("threads"), nb::arg("chunk"), nb::arg("stuck_after_s"), nb::arg("faults"))
      .def_prop_ro("uses_ring", &PyReader::uses_ring)
      .def_prop_ro("ring_refusal", &PyReader::ring_refusal)
      .def("open", &PyReader::open)
      .def("facts", &PyReader::facts)
      .def("submit", &PyReader::submit)
      .def("wait", &PyReader::wait)
      .def("ready", &PyReader::ready)
      .def("cancel", &PyReader::cancel)
      .def("promote", &PyReader::promote)
      .def("settled", &PyReader::settled)
      .def("forget_all", &PyReader::forget_all)
      .def("stats", &PyReader::stats)
      .def("close", &PyReader::close);
}

}  // namespace apportion
