#include "bind_limits.h"

#include <nanobind/stl/string.h>

#include "cpu.h"
#include "machine_limits.h"
#include "unlocked.h"
#include "views.h"

namespace nb = nanobind;

namespace apportion {

namespace {

void require_threads(unsigned threads) { require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024"); }

void make_stream(Stream* place, size_t nbytes, unsigned threads) {
  require_threads(threads);
  Unlocked unlocked;
  new (place) Stream(nbytes, threads);
}

double read_stream(const Stream& stream, unsigned threads) {
  require_threads(threads);
  Unlocked unlocked;
  return stream.read(threads) / 1e9;
}

PeakKind peak_kind(const std::string& kind) {
  if (kind == "int8") return PeakKind::int8;
  if (kind == "int16") return PeakKind::int16;
  if (kind == "f32") return PeakKind::f32;
  if (kind == "bf16") return PeakKind::bf16;
  refuse("no peak is called " + kind + "; choose int8, int16, f32 or bf16");
}

double measure_peak(const std::string& name, unsigned threads, const std::string& isa, unsigned repeats) {
  require_threads(threads);
  const PeakKind kind = peak_kind(name);
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) refuse("instruction set " + isa + " is unknown or not available here");
  Unlocked unlocked;
  return compute_peak(*kernels, kind, threads, repeats) / 1e9;
}

}  // namespace

void bind_limits(nb::module_& m) {
  nb::class_<Stream>(m, "Stream", "Memory to be read as a stream; page faults are over when it exists.")
      .def("__init__", &make_stream, nb::arg("nbytes"), nb::arg("threads"))
      .def_prop_ro("nbytes", &Stream::nbytes)
      .def("read", &read_stream, nb::arg("threads"), "GB/s of one pass over it.");
  m.def("compute_peak", &measure_peak, nb::arg("kind"), nb::arg("threads"), nb::arg("isa") = "", nb::arg("repeats") = 5,
        "GOP/s of multiply-adds in registers, each two operations; `kind` is int8, f32 or bf16.");
  m.def("busy_seconds", &Unlocked::busy_seconds, "Seconds that calls from this thread have spent in the core.");
}

}  // namespace apportion
