#include "routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "workspace.h"

namespace apportion {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

void softmax(const float* x, size_t count, float* out) {
  const float top = *std::max_element(x, x + count);
  float total = 0;
  for (size_t i = 0; i < count; ++i) total += out[i] = std::exp(x[i] - top);
  for (size_t i = 0; i < count; ++i) out[i] /= total;
}

float sigmoid(float x) {
  const float small = std::exp(-std::fabs(x));
  return (x >= 0 ? 1.0f : small) / (1.0f + small);
}

// The place of the largest, the first of equals, among those not taken yet.
size_t take_best(float* values, bool* taken, size_t count) {
  size_t best = count;
  for (size_t i = 0; i < count; ++i)
    if (!taken[i] && (best == count || values[i] > values[best])) best = i;
  taken[best] = true;
  return best;
}

float group_worth(const float* choice, size_t size, bool top2) {
  float first = kMinusInfinity, second = kMinusInfinity;
  for (size_t i = 0; i < size; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else if (choice[i] > second) {
      second = choice[i];
    }
  }
  return top2 && size > 1 ? first + second : first;
}

// Experts outside the best groups count as minus infinity.
void keep_best_groups(float* choice, size_t num_experts, const Routing& r, float* worth, bool* kept) {
  const size_t size = num_experts / r.num_groups;
  for (size_t g = 0; g < r.num_groups; ++g) worth[g] = group_worth(choice + g * size, size, r.top2_groups);
  std::fill_n(kept, r.num_groups, false);
  for (size_t i = 0; i < r.top_groups; ++i) take_best(worth, kept, r.num_groups);
  for (size_t g = 0; g < r.num_groups; ++g)
    if (!kept[g]) std::fill_n(choice + g * size, size, kMinusInfinity);
}

struct Room {
  float *scores, *choice, *worth;
  bool* taken;
};

void route_token(const float* logits, size_t num_experts, const float* bias, const Routing& r, const Room& room,
                 int32_t* ids, float* weights) {
  switch (r.score) {
    case Score::softmax: softmax(logits, num_experts, room.scores); break;
    case Score::sigmoid: std::transform(logits, logits + num_experts, room.scores, sigmoid); break;
    case Score::softmax_topk: std::copy_n(logits, num_experts, room.scores); break;
  }
  for (size_t e = 0; e < num_experts; ++e) room.choice[e] = room.scores[e] + (bias ? bias[e] : 0.0f);
  if (r.top_groups < r.num_groups) keep_best_groups(room.choice, num_experts, r, room.worth, room.taken);
  std::fill_n(room.taken, num_experts, false);
  for (size_t i = 0; i < r.top_k; ++i) {
    const size_t expert = take_best(room.choice, room.taken, num_experts);
    ids[i] = int32_t(expert);
    weights[i] = room.scores[expert];
  }
  if (r.score == Score::softmax_topk) softmax(weights, r.top_k, weights);
  float factor = r.scale;
  if (r.normalize) {
    float total = 0;
    for (size_t i = 0; i < r.top_k; ++i) total += weights[i];
    factor /= total + 1e-20f;
  }
  for (size_t i = 0; i < r.top_k; ++i) weights[i] *= factor;
}

}  // namespace

void route(const Context& context, const float* logits, size_t num_tokens, size_t num_experts, const float* bias,
           const Routing& routing, int32_t* ids, float* weights) {
  Workspace work;
  const std::span<float> floats = work.take<float>(context.threads * 3 * num_experts);
  const std::span<bool> flags = work.take<bool>(context.threads * num_experts);
  Pool::shared().run(num_tokens, 8, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    float* own = floats.data() + worker * 3 * num_experts;
    const Room room{own, own + num_experts, own + 2 * num_experts, flags.data() + worker * num_experts};
    for (size_t t = begin; t < end; ++t)
      route_token(logits + t * num_experts, num_experts, bias, routing, room, ids + t * routing.top_k,
                  weights + t * routing.top_k);
  });
}

}  // namespace apportion
