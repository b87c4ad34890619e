// Several products of one input in one parallel loop, and what is done with their results before they are stored.
#pragma once

#include "matmul.h"

namespace apportion {

inline constexpr size_t kMostProducts = 8;

// x [T, K] times a matrix [N, K], to `out` [T, N].
struct Product {
  Matrix matrix;
  const float* bias;  // [N] or null
  float* out;
  bool add = false;  // out += scale * product, else out = product
  float scale = 1.0f;
};

// All products with x [T, K], at most kMostProducts; x is quantized once for each kind of activations, with outliers
// apart if that is asked for.
void project(const Context& context, const float* x, size_t num_tokens, std::span<const Product> products, bool apart);

// act(x . gate) * (x . up) -> out [T, F]; gate and up [F, K] are never stored.
void project_gated(const Context& context, const float* x, size_t num_tokens, const Matrix& gate, const Matrix& up,
                   GateKind kind, float* out);

// Each head's first K numbers through its own matrix [N, K], the `keep` numbers after them as they are:
// x [T, heads, K + keep] -> out [T, heads, N + keep].
void project_heads(const Context& context, const float* x, size_t num_tokens, size_t num_heads, const Matrix& first,
                   size_t keep, float* out);

}  // namespace apportion
