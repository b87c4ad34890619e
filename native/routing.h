// Router logits -> each token's experts and their weights.
#pragma once

#include "context.h"

namespace apportion {

enum class Score : uint8_t { softmax, sigmoid, softmax_topk };

struct Routing {
  size_t top_k;
  Score score;
  bool normalize;
  float scale;
  size_t num_groups, top_groups;
  bool top2_groups;  // a group's worth is the sum of its two best, else its best
};

// logits [T, E], bias [E] or null -> ids and weights [T, top_k], best first, ties by lower id.
void route(const Context& context, const float* logits, size_t num_tokens, size_t num_experts, const float* bias,
           const Routing& routing, int32_t* ids, float* weights);

}  // namespace apportion
