// Rotary position embedding.
#pragma once

#include "context.h"

namespace apportion {

// x [T, A, >= 2 * num_pairs] with strides in numbers; rotated in place by position * inv_freq, times `scale`.
struct Rotation {
  float* x;
  size_t num_tokens, num_heads, token_stride, head_stride;
  const int32_t* positions;
  const float* inv_freq;
  size_t num_pairs;
  bool interleaved;
  float scale;
};

void rotate(const Context& context, const Rotation& rotation);

}  // namespace apportion
