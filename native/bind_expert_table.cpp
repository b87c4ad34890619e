#include "bind_expert_table.h"

#include "expert_table.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

// (storage, rows, cols) of the bytes as they are read.
ExpertMatrix matrix_from(const nb::tuple& told) {
  const int storage = nb::cast<int>(told[0]);
  const size_t rows = nb::cast<size_t>(told[1]), cols = nb::cast<size_t>(told[2]);
  const Format& format = format_of(storage & ~kInterleaved);
  require(rows > 0 && cols > 0 && cols % format.block_size == 0, "rows must be whole blocks");
  const bool stored = storage & kInterleaved, divides = rows % kPanelRows == 0;
  require(!stored || divides, "interleaved rows must be a multiple of 16");
  return {{&format, nullptr, rows, cols, divides}, divides && !stored};
}

class PyExpertTable {
 public:
  PyExpertTable(size_t count, const nb::tuple& gate, const nb::tuple& up, const nb::tuple& down, unsigned threads)
      : table_(std::make_shared<ExpertTable>(
            count, ExpertTable::Matrices{matrix_from(gate), matrix_from(up), matrix_from(down)}, threads)) {
    require(count > 0, "there are no experts");
    require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
    const Matrix &g = table_->matrix(0), &u = table_->matrix(1), &d = table_->matrix(2);
    require(u.rows == g.rows && u.cols == g.cols && d.cols == g.rows && d.rows == g.cols,
            "gate, up and down differ in sizes");
  }

  const std::shared_ptr<ExpertTable>& table() const { return table_; }

  void put(size_t expert, nb::handle slot_, size_t gate, size_t up, size_t down) {
    require(expert < table_->count(), "no such expert");
    const View slot(slot_, "slot", kByte, Access::write);
    slot.of_ndim(1).contiguous();
    const size_t starts[] = {gate, up, down};
    std::array<uint8_t*, 3> data;
    for (size_t i = 0; i < 3; ++i) {
      const size_t nbytes = table_->matrix(i).nbytes();
      require(starts[i] <= slot.nbytes() && nbytes <= slot.nbytes() - starts[i], "the slot is too small");
      data[i] = slot.data<uint8_t>() + starts[i];
    }
    Unlocked unlocked;
    table_->put(expert, data);
  }

  bool holds(size_t expert) const {
    require(expert < table_->count(), "no such expert");
    return table_->places()[expert].gate;
  }

  void clear(size_t expert) {
    require(expert < table_->count(), "no such expert");
    table_->clear(expert);
  }

 private:
  std::shared_ptr<ExpertTable> table_;
};

}  // namespace

std::shared_ptr<ExpertTable> table_from(nb::handle table) { return nb::cast<const PyExpertTable&>(table).table(); }

void bind_expert_table(nb::module_& m) {
  nb::class_<PyExpertTable>(m, "ExpertTable", "Where the experts of a layer are.")
      .def(nb::init<size_t, const nb::tuple&, const nb::tuple&, const nb::tuple&, unsigned>(), nb::arg("count"),
           nb::arg("gate"), nb::arg("up"), nb::arg("down"), nb::arg("threads"))
      .def("put", &PyExpertTable::put, nb::arg("expert"), nb::arg("slot"), nb::arg("gate"), nb::arg("up"),
           nb::arg("down"))
      .def("clear", &PyExpertTable::clear)
      .def("holds", &PyExpertTable::holds);
}

}  // namespace apportion
