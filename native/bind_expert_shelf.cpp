#include "bind_expert_shelf.h"

#include <nanobind/stl/vector.h>

#include <algorithm>

#include "arguments.h"
#include "bind_expert_table.h"
#include "bind_memory.h"
#include "expert_shelf.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

using Ids = std::vector<uint32_t>;

class PyLoadTimes {
 public:
  explicit PyLoadTimes(std::vector<double> edges) {
    require(std::ranges::is_sorted(edges), "edges must ascend");
    times_ = std::make_shared<LoadTimes>(std::move(edges));
  }

  const std::shared_ptr<LoadTimes>& shared() const { return times_; }

  void add_stall(double seconds) { times_->add_stall(seconds); }
  void add_load(double seconds) { times_->add_load(seconds); }
  double stall_s() const { return times_->told().stall_s; }

  // (sum, counts)
  nb::tuple loads() const {
    const LoadTimes::Told told = times_->told();
    return nb::make_tuple(told.load_s, told.counts);
  }

 private:
  std::shared_ptr<LoadTimes> times_;
};

class PyExpertShelf {
 public:
  // Units are ([(file, offset, bytes, where in the slot)], (start of gate, up, down)).
  PyExpertShelf(nb::handle table_, nb::handle arena_, nb::handle reader_, const PyLoadTimes& times,
                const std::vector<nb::tuple>& units) {
    const std::shared_ptr<ExpertTable> table = table_from(table_);
    const std::shared_ptr<SlotArena> arena = arena_from(arena_);
    const std::shared_ptr<Reader> reader = reader_from(reader_);
    require(!table->shelf(), "the table has a shelf");
    require(units.size() == table->count(), "the table has another number of experts");
    std::vector<ExpertShelf::Unit> checked;
    for (const nb::tuple& unit : units) checked.push_back(unit_of(unit, *table, *reader, arena->stride()));
    shelf_ = std::make_unique<ExpertShelf>(table, arena, reader, times.shared(), std::move(checked));
  }

  size_t num_held() const { return shelf().num_held(); }
  size_t num_coming() const { return shelf().num_coming(); }

  bool holds(size_t expert) const { return state(expert) != ExpertShelf::State::away; }
  bool is_ready(size_t expert) const { return holds(expert) && shelf().is_ready(expert); }

  Ids here(const Ids& without) const {
    std::vector<bool> left_out(shelf().count());
    for (const uint32_t expert : without) left_out[known(expert)] = true;
    Ids found;
    for (uint32_t expert = 0; expert < left_out.size(); ++expert)
      if (!left_out[expert] && state(expert) == ExpertShelf::State::here) found.push_back(expert);
    return found;
  }

  // (how many are here, [those that are away])
  nb::tuple ask(const Ids& experts) {
    for (const uint32_t expert : experts) known(expert);
    Ids missing;
    const size_t num_here = shelf().ask(experts, missing);
    return nb::make_tuple(num_here, missing);
  }

  void let_go(size_t num_slots, Ids order) {
    for (const uint32_t expert : order) known(expert);
    shelf().let_go(num_slots, std::move(order));
  }

  bool start(size_t expert, bool prefetch) {
    require(!holds(expert), "the expert has a slot");
    Unlocked unlocked;
    switch (shelf_->start(expert, prefetch ? Priority::prefetch : Priority::demand)) {
      case ExpertShelf::Started::yes: return true;
      case ExpertShelf::Started::no_slot: return false;
      default: refuse("the reader is closed");
    }
  }

  void give_up(size_t expert) {
    require(state(expert) == ExpertShelf::State::here, "the expert is not in memory");
    shelf_->give_up(expert);
  }

  void take_in() {
    if (!shelf().num_coming()) return;
    Unlocked unlocked;
    shelf_->take_in();
  }

  // Until one of all that are coming has come, or failed.
  void wait() {
    Ids coming;
    for (uint32_t expert = 0; expert < shelf().count(); ++expert)
      if (state(expert) == ExpertShelf::State::coming) coming.push_back(expert);
    for (bool is_over = coming.empty(); !is_over;) {
      {
        Unlocked unlocked;
        // In slices, so that Ctrl-C is heard.
        is_over = shelf_->wait(coming, IoClock::now() + std::chrono::milliseconds(100)) || shelf_->has_failed();
      }
      if (!is_over && PyErr_CheckSignals()) throw nb::python_error();
    }
  }

  bool has_failed() const { return shelf().has_failed(); }

  // (expert, outcome) of the one that did not come since this was asked last, or None.
  nb::object failure() {
    const std::optional<ExpertShelf::Failure> failure = shelf().failure();
    if (!failure) return nb::none();
    return nb::make_tuple(failure->expert, told(failure->outcome));
  }

  bool settle() { return shelf().settle(); }
  Ids recover() { return shelf().recover(); }

  // ([hits], [misses]), by expert
  nb::tuple uses() const {
    nb::list hits, misses;
    for (const ExpertShelf::Uses& uses : shelf().uses()) {
      hits.append(uses.hits);
      misses.append(uses.misses);
    }
    return nb::make_tuple(hits, misses);
  }

  void close() { shelf_.reset(); }

 private:
  static ExpertShelf::Unit unit_of(const nb::tuple& told, const ExpertTable& table, Reader& reader,
                                   size_t slot_nbytes) {
    require(told.size() == 2, "a unit is parts, and where its matrices start");
    ExpertShelf::Unit unit;
    for (const nb::tuple& part : nb::cast<std::vector<nb::tuple>>(told[0])) {
      unit.stretches.push_back({nb::cast<uint32_t>(part[0]), nb::cast<uint64_t>(part[1]), nb::cast<size_t>(part[2]),
                                nb::cast<size_t>(part[3])});
      const ExpertShelf::Unit::Stretch& one = unit.stretches.back();
      check_stretch(reader, one.file, one.offset, one.nbytes, one.at, slot_nbytes);
    }
    const nb::tuple starts = nb::cast<nb::tuple>(told[1]);
    require(starts.size() == 3, "matrices are gate, up and down");
    for (size_t i = 0; i < 3; ++i) {
      unit.starts[i] = nb::cast<size_t>(starts[i]);
      const size_t nbytes = table.matrix(i).nbytes();
      require(unit.starts[i] <= slot_nbytes && nbytes <= slot_nbytes - unit.starts[i], "the slot is too small");
    }
    return unit;
  }

  ExpertShelf& shelf() const {
    require(shelf_ != nullptr, "the shelf is closed");
    return *shelf_;
  }

  size_t known(size_t expert) const {
    require(expert < shelf().count(), "no such expert");
    return expert;
  }

  ExpertShelf::State state(size_t expert) const { return shelf().state(known(expert)); }

  std::unique_ptr<ExpertShelf> shelf_;
};

}  // namespace

void bind_expert_shelf(nb::module_& m) {
  nb::class_<PyLoadTimes>(m, "LoadTimes", "How long reads take those who wait for them.")
      .def(nb::init<std::vector<double>>(), nb::arg("edges"))
      .def("add_stall", &PyLoadTimes::add_stall)
      .def("add_load", &PyLoadTimes::add_load)
      .def_prop_ro("stall_s", &PyLoadTimes::stall_s)
      .def("loads", &PyLoadTimes::loads);
  nb::class_<PyExpertShelf>(m, "ExpertShelf", "A layer's experts in slots, as they come from files and go.")
      .def(nb::init<nb::handle, nb::handle, nb::handle, const PyLoadTimes&, const std::vector<nb::tuple>&>(),
           nb::arg("table"), nb::arg("arena"), nb::arg("reader"), nb::arg("times"), nb::arg("units"))
      .def_prop_ro("num_held", &PyExpertShelf::num_held)
      .def_prop_ro("num_coming", &PyExpertShelf::num_coming)
      .def("holds", &PyExpertShelf::holds)
      .def("is_ready", &PyExpertShelf::is_ready)
      .def("here", &PyExpertShelf::here)
      .def("ask", &PyExpertShelf::ask)
      .def("let_go", &PyExpertShelf::let_go)
      .def("start", &PyExpertShelf::start, nb::arg("expert"), nb::arg("prefetch") = false)
      .def("give_up", &PyExpertShelf::give_up)
      .def("take_in", &PyExpertShelf::take_in)
      .def("wait", &PyExpertShelf::wait)
      .def_prop_ro("has_failed", &PyExpertShelf::has_failed)
      .def("failure", &PyExpertShelf::failure)
      .def("settle", &PyExpertShelf::settle)
      .def("recover", &PyExpertShelf::recover)
      .def("uses", &PyExpertShelf::uses)
      .def("close", &PyExpertShelf::close);
}

}  // namespace apportion
