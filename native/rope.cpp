#include "rope.h"

#include <cmath>

#include "workspace.h"

namespace apportion {

namespace {

void rotate_head(const Rotation& r, const float* cosines, const float* sines, float* x) {
  const size_t step = r.interleaved ? 2 : 1, apart = r.interleaved ? 1 : r.num_pairs;
  for (size_t i = 0; i < r.num_pairs; ++i) {
    const float a = x[i * step], b = x[i * step + apart];
    x[i * step] = a * cosines[i] - b * sines[i];
    x[i * step + apart] = b * cosines[i] + a * sines[i];
  }
}

void rotate_token(const Rotation& r, size_t token, float* angles) {
  float *cosines = angles, *sines = angles + r.num_pairs;
  for (size_t i = 0; i < r.num_pairs; ++i) {
    const float angle = float(r.positions[token]) * r.inv_freq[i];
    cosines[i] = std::cos(angle) * r.scale;
    sines[i] = std::sin(angle) * r.scale;
  }
  for (size_t h = 0; h < r.num_heads; ++h)
    rotate_head(r, cosines, sines, r.x + token * r.token_stride + h * r.head_stride);
}

}  // namespace

void rotate(const Context& context, const Rotation& rotation) {
  Workspace work;
  const std::span<float> angles = work.take<float>(context.threads * 2 * rotation.num_pairs);
  Pool::shared().run(rotation.num_tokens, 16, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t t = begin; t < end; ++t) rotate_token(rotation, t, angles.data() + worker * 2 * rotation.num_pairs);
  });
}

}  // namespace apportion
