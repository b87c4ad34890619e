// The Python face of program.h: arrays become checked weights and caches that stay alive as long as what uses them.
#pragma once

#include <nanobind/nanobind.h>

namespace apportion {

void bind_program(nanobind::module_& m);

}  // namespace apportion
