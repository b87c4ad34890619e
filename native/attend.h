// Causal attention over a cache of keys and values.
#pragma once

#include "context.h"

namespace apportion {

// A cache [heads, capacity, width] as a strided view, in numbers.
struct CacheView {
  const void* data;
  bool halves;
  size_t num_heads, capacity, width;
  size_t head_stride, position_stride;
};

struct Attention {
  const float* q;  // [T, A, D]
  size_t num_tokens, num_heads;
  CacheView k, v;
  size_t start, window;
  float scale, softcap;
  const float* sinks;  // [A] or null
};

// -> out [T, A, Dv]
void attend(const Context& context, const Attention& attention, float* out);

}  // namespace apportion
