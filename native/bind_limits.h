// The Python face of limits.h, and the clock of the time spent in the core.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_limits(nanobind::module_& m);

}  // namespace apportion
