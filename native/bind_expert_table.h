#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "expert_table.h"

namespace apportion {

// The table behind the Python object; raises where it is none.
std::shared_ptr<ExpertTable> table_from(nanobind::handle table);

void bind_expert_table(nanobind::module_& m);

}  // namespace apportion
