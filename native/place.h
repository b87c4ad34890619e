// Queries, keys and values on their way from the projections to attention.
#pragma once

#include "context.h"
#include "kv_pages.h"

namespace apportion {

// Heads are normalized in runs: of each run of `period` numbers the first `width` are.
struct HeadNorm {
  const float* weight;  // [width], or null: not at all
  size_t width, period;
};

struct Placing {
  float *q, *k, *v;  // [T, A, D], [T, G, D], [T, G, Dv]; all changed. v is null where values are a part of the keys
  KvShape shape;
  size_t num_tokens, num_heads;
  HeadNorm q_norm, k_norm;
  float eps;
  float clip;                      // 0: none
  const float* angles;             // [T][2][pairs]
  size_t num_pairs, rotated_from;  // the dimensions from `rotated_from` on are rotated
  bool interleaved;
  size_t layer;
  std::span<const KvSegment> segments;  // of the tokens
};

// Writes keys [T, G, D] and values [T, G, Dv], or null, to the tables, where their segments start and on.
struct Rows {
  const float *k, *v;
  KvShape shape;
  size_t layer;
  std::span<const KvSegment> segments;
};

void append(const Context& context, const Rows& rows);

// Normalizes, clips and rotates queries and keys, then writes keys and values to the tables, where their segments start
// and on.
void place(const Context& context, const Placing& placing);

}  // namespace apportion
