// How a call is to be computed.
#pragma once

#include "kernels.h"
#include "pool.h"

namespace apportion {

struct Context {
  const Kernels* kernels;
  unsigned threads;
  bool exact;  // float activations for every format
};

}  // namespace apportion
