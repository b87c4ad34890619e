// The Python face of expert_shelf.h.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_expert_shelf(nanobind::module_& m);

}  // namespace apportion
