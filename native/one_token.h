// Products of one token, which are as fast as their weights are read. A thread reads a stretch of panels in order,
// which the processor foresees; where two panels belong together, as those of gate and up, it reads both in turn. More
// places at once collide in memory with those of the other threads.
//
//   matrix   | stretch of one thread | stretch of another ...
//            | panel, panel, ..  --> | panel, panel, ..  -->
#pragma once

#include <algorithm>
#include <span>

#include "matmul.h"
#include "pool.h"

namespace apportion {

// The token times panel `panel` of a matrix.
struct PanelProduct {
  const Matrix* matrix;
  size_t panel;
  const Token* token;
  float* sums;  // [16]
};

// At most kSideBySide products of one width. They are computed side by side where their weights are alike.
void multiply_one(const Context& context, std::span<const PanelProduct> products);

// Panels of one of several matrices that one thread does for one token.
struct Stretch {
  size_t matrix, first, count;
};

// Calls body(stretch, worker) for stretches that cover all panels; panel_counts are those of the matrices.
template <class Body>
void for_stretches(const Context& context, std::span<const size_t> panel_counts, size_t num_cols, Body&& body) {
  size_t total = 0, num_stretches = 0;
  for (size_t count : panel_counts) total += count;
  const size_t worthwhile = kFewNumbers / (num_cols * kPanelRows);
  const size_t most = std::max({size_t(1), worthwhile, even_grain(total, context.threads, 2)});
  for (size_t count : panel_counts) num_stretches += (count + most - 1) / most;
  Pool::shared().run(num_stretches, 1, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t i = begin; i < end; ++i) {
      Stretch stretch{0, i, 0};
      for (; stretch.first * most >= panel_counts[stretch.matrix]; ++stretch.matrix)
        stretch.first -= (panel_counts[stretch.matrix] + most - 1) / most;
      stretch.first *= most;
      stretch.count = std::min(most, panel_counts[stretch.matrix] - stretch.first);
      body(stretch, worker);
    }
  });
}

// act(token . gate + bias) * (token . up + bias) -> out [F]. Biases [F] may be null.
struct GatedOne {
  const Matrix &gate, &up;
  const Token *gate_token, *up_token;
  const float *gate_bias, *up_bias;
  GateKind kind;
  float* out;
};

// Rows of `out` that are the panels of the stretch.
void multiply_gated(const Context& context, const GatedOne& one, const Stretch& stretch);

}  // namespace apportion
