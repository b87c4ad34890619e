// Products of one token, which are as fast as their weights are read: memory serves several places at once faster than
// one after the other, so a thread walks a stretch of panels at several places side by side.
//
//   matrix   | stretch of one thread                | stretch of another ...
//            | place | place | place | place        |
//              -->     -->     -->     -->
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
void multiply_panels(const Context& context, std::span<const PanelProduct> products);

// Panels of one of several matrices that one thread does for one token.
struct Stretch {
  size_t matrix, first, count;
};

// Calls body(panels) for up to `abreast` panels of a stretch that lie apart from one another, until all have been.
template <class Body>
void walk(const Stretch& stretch, size_t abreast, Body&& body) {
  const size_t apart = (stretch.count + abreast - 1) / abreast;
  for (size_t step = 0; step < apart; ++step) {
    size_t panels[kSideBySide], count = 0;
    for (size_t at = step; at < stretch.count; at += apart) panels[count++] = stretch.first + at;
    body(std::span<const size_t>(panels, count));
  }
}

// Calls body(stretch, worker) for stretches that cover all panels; panel_counts are those of the matrices.
template <class Body>
void for_stretches(const Context& context, std::span<const size_t> panel_counts, size_t num_cols, Body&& body) {
  size_t total = 0, num_stretches = 0;
  for (size_t count : panel_counts) total += count;
  const size_t worthwhile = kFewNumbers / (num_cols * kPanelRows);
  const size_t most = round_up(std::max({size_t(1), worthwhile, even_grain(total, context.threads, 2)}), kSideBySide);
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
