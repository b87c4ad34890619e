// Weights as a whole: decoding them, and rearranging their rows.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_weights(nanobind::module_& m);

}  // namespace apportion
