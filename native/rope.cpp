#include "rope.h"

#include <cmath>

#include "workspace.h"

namespace apportion {

namespace {

constexpr size_t kAnglesAtOnce = 2048;  // below this, sharing the work costs more than it saves
constexpr size_t kPairsAtOnce = 1 << 14;

size_t tokens_at_once(size_t work, size_t work_per_token) { return std::max<size_t>(1, work / (work_per_token + 1)); }

}  // namespace

void make_angles(const Context& context, std::span<const int32_t> positions, std::span<const float> inv_freq,
                 float scale, float* rows) {
  const size_t pairs = inv_freq.size(), grain = tokens_at_once(kAnglesAtOnce, pairs);
  Pool::shared().run(positions.size(), grain, context.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t) {
      float *cosines = rows + t * 2 * pairs, *sines = cosines + pairs;
      for (size_t i = 0; i < pairs; ++i) {
        const float angle = float(positions[t]) * inv_freq[i];
        cosines[i] = std::cos(angle) * scale;
        sines[i] = std::sin(angle) * scale;
      }
    }
  });
}

void rotate_with(const Context& context, const RotaryHeads& heads, const float* rows) {
  const size_t grain = tokens_at_once(kPairsAtOnce, heads.num_heads * heads.num_pairs);
  Pool::shared().run(heads.num_tokens, grain, context.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t)
      for (size_t h = 0; h < heads.num_heads; ++h)
        context.kernels->rotate_head(rows + t * 2 * heads.num_pairs, heads.num_pairs, heads.interleaved,
                                     heads.x + t * heads.token_stride + h * heads.head_stride);
  });
}

void rotate(const Context& context, const Rotation& r) {
  Workspace work;
  const std::span<float> rows = work.take<float>(r.num_tokens * 2 * r.num_pairs);
  make_angles(context, {r.positions, r.num_tokens}, {r.inv_freq, r.num_pairs}, r.scale, rows.data());
  rotate_with(context, {r.x, r.num_tokens, r.num_heads, r.token_stride, r.head_stride, r.num_pairs, r.interleaved},
              rows.data());
}

}  // namespace apportion
