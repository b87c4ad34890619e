#include "steps.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "attend.h"
#include "embed.h"
#include "project.h"

namespace apportion {

namespace {

// Calls body(token) for all tokens.
template <class Body>
void for_tokens(const Scene& scene, size_t width, Body&& body) {
  const size_t grain = std::max<size_t>(1, kFewNumbers / std::max<size_t>(1, width));
  Pool::shared().run(scene.num_tokens, grain, scene.context.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t) body(t);
  });
}

void run(const Scene& scene, const EmbedStep& s) {
  float* out = scene.at(s.out);
  embed(scene.context, s.table, {scene.ids, scene.num_tokens}, out);
  if (s.scale == 1.0f) return;
  for (size_t i = 0; i < scene.num_tokens * s.table.cols; ++i) out[i] *= s.scale;
}

void run(const Scene& scene, const NormStep& s) {
  const float* x = scene.at(s.x);
  float* out = scene.at(s.out);
  for_tokens(scene, s.width, [&](size_t t) {
    scene.context.kernels->rms_norm(x + t * s.width, s.weight, s.width, s.eps, out + t * s.width);
  });
}

void run(const Scene& scene, const AddStep& s) {
  for_tokens(scene, s.width, [&](size_t t) {
    float *x = scene.at(s.x) + t * s.width, *y = scene.at(s.y) + t * s.width;
    if (s.weight) scene.context.kernels->rms_norm(y, s.weight, s.width, s.eps, y);
    for (size_t i = 0; i < s.width; ++i) x[i] += s.scale * y[i];
  });
}

void run(const Scene& scene, const AddGatedStep& s) {
  for_tokens(scene, s.width, [&](size_t t) {
    float* x = scene.at(s.x) + t * s.width;
    const float* y = scene.at(s.y) + t * s.width;
    const float share = 0.5f * (1.0f + std::tanh(0.5f * scene.at(s.gate)[t]));
    for (size_t i = 0; i < s.width; ++i) x[i] += share * y[i];
  });
}

void run(const Scene& scene, const BoundStep& s) {
  float* x = scene.at(s.x);
  Pool::shared().run(scene.num_tokens * s.width, 4096, scene.context.threads, [&](size_t begin, size_t end, unsigned) {
    scene.context.kernels->bound(x + begin, end - begin, s.scale, s.cap);
  });
}

void run(const Scene& scene, const ProjectStep& s) {
  std::array<Product, kMostProducts> products;
  for (size_t i = 0; i < s.parts.size(); ++i) {
    const ProjectStep::Part& part = s.parts[i];
    products[i] = {part.matrix, part.bias, scene.at(part.out), part.add, part.scale};
  }
  const size_t count = s.parts.size();
  project(scene.context, scene.at(s.x), scene.num_tokens, std::span(products).first(count), count > 1);
}

void run(const Scene& scene, const GatedStep& s) {
  project_gated(scene.context, scene.at(s.x), scene.num_tokens, s.gate, s.up, s.kind, scene.at(s.out));
}

void run(const Scene& scene, const HeadsStep& s) {
  project_heads(scene.context, scene.at(s.x), scene.num_tokens, s.num_heads, s.first, s.keep, scene.at(s.out));
}

void run(const Scene& scene, const PlaceStep& s) {
  const Rotary& rotary = scene.rotaries[s.rotary];
  place(scene.context, {.q = scene.at(s.q),
                        .k = scene.at(s.k),
                        .v = s.v ? scene.at(*s.v) : nullptr,
                        .shape = s.shape,
                        .num_tokens = scene.num_tokens,
                        .num_heads = s.num_heads,
                        .q_norm = s.q_norm,
                        .k_norm = s.k_norm,
                        .eps = s.eps,
                        .clip = s.clip,
                        .angles = scene.at(rotary.angles),
                        .num_pairs = rotary.inv_freq.size(),
                        .rotated_from = s.rotated_from,
                        .interleaved = rotary.interleaved,
                        .layer = s.layer,
                        .segments = scene.segments});
}

void run(const Scene& scene, const AttendStep& s) {
  attend(scene.context,
         {scene.at(s.q), s.num_heads, s.layer, s.shape, s.window, s.scale, s.softcap, s.sinks, scene.segments},
         scene.at(s.out));
}

int32_t* ids_at(const Scene& scene, Buffer buffer) { return reinterpret_cast<int32_t*>(scene.at(buffer)); }

void run(const Scene& scene, const RouteStep& s) {
  route(scene.context, scene.at(s.logits), scene.num_tokens, s.num_experts, s.bias, s.routing, ids_at(scene, s.ids),
        scene.at(s.weights));
}

void run(const Scene& scene, const ExpertsStep& s) {
  apply_experts(scene.context, input_of(scene, s), s.experts, s.kind, scene.at(s.out));
}

}  // namespace

ExpertInput input_of(const Scene& scene, const ExpertsStep& s) {
  return {scene.at(s.x), ids_at(scene, s.ids), scene.at(s.weights), scene.num_tokens, s.per_token};
}

void run_step(const Scene& scene, const Step& step) {
  std::visit([&](const auto& known) { run(scene, known); }, step);
}

}  // namespace apportion
