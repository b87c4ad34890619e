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
  const size_t D = p.shape.key_width;
  rotate_with(context, {x + p.rotated_from, 1, num_heads, num_heads * D, D, p.num_pairs, p.interleaved},
              p.angles + token * 2 * p.num_pairs);
}

// Queries and keys in channels that are alike large: what multiplies the ones divides the others.
void smooth(const Placing& p, const Smoothing& smoothing, float* q, float* k) {
  const size_t D = p.shape.key_width, G = p.shape.num_heads, per_group = p.num_heads / G;
  for (size_t head = 0; head < p.num_heads; ++head) {
    const float* factors = smoothing.queries.data() + head / per_group * D;
    for (size_t d = 0; d < D; ++d) q[head * D + d] *= factors[d];
  }
  for (size_t i = 0; i < G * D; ++i) k[i] *= smoothing.keys[i];
}

void append_token(const Context& context, const Rows& rows, size_t token, const KvTable& table, size_t place) {
  const auto [num_heads, D, Dv, joint] = rows.shape;
  for (size_t head = 0; head < num_heads; ++head) {
    const size_t own = size_t(ptrdiff_t(place) + table.shift(rows.layer, head)), row = own % kPageTokens;
    const KvPage page = table.page(rows.layer, head, own / kPageTokens);
    context.kernels->encode_row(rows.k + (token * num_heads + head) * D, D, page.key_row(row, D));
    if (joint) continue;
    context.kernels->encode_row(rows.v + (token * num_heads + head) * Dv, Dv, page.value_row(row, Dv));
  }
}

// Calls body(token, table, place) for the tokens begin .. end - 1.
template <class Body>
void for_tokens(std::span<const KvSegment> segments, size_t begin, size_t end, Body&& body) {
  size_t first = 0;  // token of the segment
  for (const KvSegment& segment : segments) {
    const size_t last = first + segment.num_tokens;
    for (size_t t = std::max(begin, first); t < std::min(end, last); ++t)
      body(t, *segment.table, segment.start + t - first);
    first = last;
  }
}

void place_token(const Context& context, const Placing& p, size_t token, const KvTable& table, size_t at) {
  const size_t D = p.shape.key_width, G = p.shape.num_heads, Dv = p.shape.value_width;
  float *q = p.q + token * p.num_heads * D, *k = p.k + token * G * D, *v = p.v ? p.v + token * G * Dv : nullptr;
  normalize(context, p.q_norm, p.eps, q, p.num_heads * D);
  normalize(context, p.k_norm, p.eps, k, G * D);
  if (p.clip > 0) {
    clip(p.clip, q, p.num_heads * D);
    clip(p.clip, k, G * D);
    if (v) clip(p.clip, v, G * Dv);
  }
  turn(context, p, q, p.num_heads, token);
  turn(context, p, k, G, token);
  const KvPool& pool = *table.blocks[at / kPageTokens].pool;
  if (!pool.smoothing.empty()) smooth(p, pool.smoothing[p.layer], q, k);
  append_token(context, {p.k, p.v, p.shape, p.layer, p.segments}, token, table, at);
}

}  // namespace

void append(const Context& context, const Rows& rows) {
  size_t num_tokens = 0;
  for (const KvSegment& segment : rows.segments) num_tokens += segment.num_tokens;
  Pool::shared().run(num_tokens, 64, context.threads, [&](size_t begin, size_t end, unsigned) {
    for_tokens(rows.segments, begin, end,
               [&](size_t t, const KvTable& table, size_t place) { append_token(context, rows, t, table, place); });
  });
}

void place(const Context& context, const Placing& placing) {
  Pool::shared().run(placing.num_tokens, kFewTokens, context.threads, [&](size_t begin, size_t end, unsigned) {
    for_tokens(placing.segments, begin, end,
               [&](size_t t, const KvTable& table, size_t place) { place_token(context, placing, t, table, place); });
  });
}

}  // namespace apportion
