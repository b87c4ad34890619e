// What a program is made of. A step is plain data; run_step does it. Buffers hold [tokens, width] floats (chosen
// experts: int32).
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "experts.h"
#include "place.h"
#include "routing.h"

namespace apportion {

using Buffer = uint32_t;

// Vectors that may be null are as in the headers of what computes on them.

struct EmbedStep {
  Matrix table;
  float scale;
  Buffer out;
};

// out = x, normalized over its whole width.
struct NormStep {
  Buffer x, out;
  const float* weight;
  size_t width;
  float eps;
};

// x += scale * y, with y normalized before, in place, if there is a weight.
struct AddStep {
  Buffer x, y;
  const float* weight;
  size_t width;
  float eps, scale;
};

// x += y * sigmoid(gate), a gate of width 1.
struct AddGatedStep {
  Buffer x, y, gate;
  size_t width;
};

// x = scale * x, then cap * tanh(x / cap) if cap > 0.
struct BoundStep {
  Buffer x;
  size_t width;
  float scale, cap;
};

struct ProjectStep {
  struct Part {
    Matrix matrix;
    const float* bias;
    Buffer out;
    bool add;
    float scale;
  };
  Buffer x;
  std::vector<Part> parts;
};

struct GatedStep {
  Buffer x, out;
  Matrix gate, up;
  GateKind kind;
};

struct HeadsStep {
  Buffer x, out;
  Matrix first;
  size_t num_heads, keep;
};

struct PlaceStep {
  Buffer q, k;
  std::optional<Buffer> v;
  size_t layer, rotary;
  size_t num_heads;
  KvShape shape;
  HeadNorm q_norm, k_norm;
  float eps, clip;
  size_t rotated_from;
};

struct AttendStep {
  Buffer q, out;
  size_t layer, num_heads;
  KvShape shape;
  size_t window;
  float scale, softcap;
  const float* sinks;
};

struct RouteStep {
  Buffer logits, ids, weights;
  size_t num_experts;
  const float* bias;
  Routing routing;
};

// Where its experts come and go, a program stops at this step for them (program.h).
struct ExpertsStep {
  Buffer x, ids, weights, out;
  std::optional<Buffer> scores;  // the router's [T, experts], where they are kept until the experts have come
  size_t per_token;
  Experts experts;
  GateKind kind;
};

using Step = std::variant<EmbedStep, NormStep, AddStep, AddGatedStep, BoundStep, ProjectStep, GatedStep, HeadsStep,
                          PlaceStep, AttendStep, RouteStep, ExpertsStep>;

// The angles of one kind of rotary embedding.
struct Rotary {
  std::span<const float> inv_freq;
  bool interleaved;
  float scale;
  Buffer angles;  // [T][2][pairs], made once per run
};

// What steps find at run time.
struct Scene {
  const Context& context;
  std::span<float* const> buffers;
  std::span<const Rotary> rotaries;
  std::span<const KvSegment> segments;  // of the tokens
  const int32_t* ids;                   // [T]
  size_t num_tokens;

  float* at(Buffer buffer) const { return buffers[buffer]; }
};

void run_step(const Scene& scene, const Step& step);

ExpertInput input_of(const Scene& scene, const ExpertsStep& step);

}  // namespace apportion
