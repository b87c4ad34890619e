#include "place.h"

#include <algorithm>

#include "rope.h"

namespace apportion {

namespace {

constexpr size_t kFewTokens = 4;  // less is not worth waking a thread for

void normalize(const Context& context, const HeadNorm& norm, float eps, float* x, size_t width) {
  if (!norm.weight) return;
  for (size_t i = 0; i < width; i += norm.period) context.kernels->rms_norm(x + i, norm.weight, norm.width, eps, x + i);
}

void clip(float most, float* x, size_t width) {
  for (size_t i = 0; i < width; ++i) x[i] = std::clamp(x[i], -most, most);
}

void turn(const Context& context, const Placing& p, float* x, size_t num_heads, size_t token) {
  const size_t D = p.keys.width;
  rotate_with(context, {x + p.rotated_from, 1, num_heads, num_heads * D, D, p.num_pairs, p.interleaved},
              p.angles + token * 2 * p.num_pairs);
}

void append(const Context& context, const CacheView& cache, size_t position, const float* x) {
  for (size_t h = 0; h < cache.num_heads; ++h, x += cache.width) {
    const size_t to = h * cache.head_stride + position * cache.position_stride;
    if (cache.halves)
      context.kernels->to_half(x, cache.width, static_cast<uint16_t*>(const_cast<void*>(cache.data)) + to);
    else
      std::copy_n(x, cache.width, static_cast<float*>(const_cast<void*>(cache.data)) + to);
  }
}

void place_token(const Context& context, const Placing& p, size_t token) {
  const size_t D = p.keys.width, G = p.keys.num_heads, Dv = p.values.width;
  float *q = p.q + token * p.num_heads * D, *k = p.k + token * G * D;
  normalize(context, p.q_norm, p.eps, q, p.num_heads * D);
  normalize(context, p.k_norm, p.eps, k, G * D);
  if (p.clip > 0) {
    clip(p.clip, q, p.num_heads * D);
    clip(p.clip, k, G * D);
    if (p.v) clip(p.clip, p.v + token * G * Dv, G * Dv);
  }
  turn(context, p, q, p.num_heads, token);
  turn(context, p, k, G, token);
  append(context, p.keys, p.start + token, k);
  if (p.v) append(context, p.values, p.start + token, p.v + token * G * Dv);
}

}  // namespace

void place(const Context& context, const Placing& placing) {
  Pool::shared().run(placing.num_tokens, kFewTokens, context.threads, [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t) place_token(context, placing, t);
  });
}

}  // namespace apportion
