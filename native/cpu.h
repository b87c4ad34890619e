// Which instruction sets this machine can run, and which one is used.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels.h"

namespace apportion {

// Names of the sets that were built and that this processor has, the fastest first.
std::vector<std::string> available_isas();

// An empty name takes the fastest; nullptr when there is no such set here.
const Kernels* find_kernels(std::string_view isa);

}  // namespace apportion
