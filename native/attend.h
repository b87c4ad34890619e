// Causal attention over the pages of sequences.
#pragma once

#include "context.h"
#include "kv_pages.h"

namespace apportion {

struct Attention {
  const float* q;  // [T, A, D], of all segments' tokens one after the other
  size_t num_heads;
  size_t layer;
  KvShape shape;
  size_t window;
  float scale, softcap;
  const float* sinks;  // [A] or null
  std::span<const KvSegment> segments;
};

// -> out [T, A, Dv]. Each token sees the live places of its own table, up to its own.
void attend(const Context& context, const Attention& attention, float* out);

}  // namespace apportion
