// A layer's experts applied to the tokens that chose them.
#pragma once

#include "matmul.h"

namespace apportion {

// Stacks of `count` matrices; biases may be null.
struct Experts {
  size_t count;
  Matrix gate, up, down;  // the first of each stack
  const float *gate_bias, *up_bias, *down_bias;
};

// x [T, H], ids and weights [T, R] -> out [T, H]. Every id must be below experts.count.
void apply_experts(const Context& context, const float* x, const int32_t* ids, const float* weights, size_t num_tokens,
                   size_t per_token, const Experts& experts, GateKind kind, float* out);

}  // namespace apportion
