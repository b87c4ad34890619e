// The Python face of sample.h.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_sampling(nanobind::module_& m);

}  // namespace apportion
