// The Python face of slots.h and of io/reader.h.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_memory(nanobind::module_& m);

}  // namespace apportion
