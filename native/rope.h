// Rotary position embedding.
#pragma once

#include <span>

#include "context.h"

namespace apportion {

// Heads [T, A, >= 2 * num_pairs] with strides in numbers, and how their dimensions are paired: i with i + num_pairs,
// or if interleaved 2 i with 2 i + 1.
struct RotaryHeads {
  float* x;
  size_t num_tokens, num_heads, token_stride, head_stride;
  size_t num_pairs;
  bool interleaved;
};

// Cosines and sines of position * inv_freq, times `scale` -> rows [positions][2][pairs]. The angle is rounded to float,
// as models are trained with; its cosine and sine are right at any size. A forward pass makes its rows once.
void make_angles(const Context& context, std::span<const int32_t> positions, std::span<const float> inv_freq,
                 float scale, float* rows);

// Turns every token's heads in place by its row of angles.
void rotate_with(const Context& context, const RotaryHeads& heads, const float* rows);

// Both at once: heads and the angles' ingredients.
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
