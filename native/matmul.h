// Products of activations with weight matrices in any format.
#pragma once

#include <algorithm>
#include <span>

#include "context.h"
#include "workspace.h"

namespace apportion {

// Panels of a matrix that are multiplied together: one or two.
struct Panels {
  size_t first, count = 1;
};

// Rows of one matrix, one after the other; or, interleaved, panels of 16 rows one after the other; or these in two
// parts (split.h).
struct Matrix {
  const Format* format;
  const uint8_t* data;
  size_t rows, cols;
  bool interleaved = false;
  bool split = false;  // then not interleaved

  size_t nbytes() const { return rows * format->row_nbytes(cols); }
  size_t num_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  size_t panel_nbytes() const { return kPanelRows * format->row_nbytes(cols); }
  const uint8_t* panel(size_t i) const { return data + i * panel_nbytes(); }  // interleaved
  // Panels by twos, the last one perhaps alone.
  size_t num_pairs() const { return (num_panels() + 1) / 2; }
  Panels pair(size_t i) const { return {2 * i, std::min<size_t>(2, num_panels() - 2 * i)}; }
  size_t rows_of(size_t panel) const { return std::min(kPanelRows, rows - panel * kPanelRows); }
};

// How activations are stored for products with formats of this arithmetic.
Activations activations_for(const Context& context, Arithmetic arithmetic);

// Rows x[t * stride ..] in this kind of activations, or as the products with a format want them; `apart` asks for
// outliers beside bytes.
std::span<Token> prepare_tokens(const Context& context, Scratch& work, const float* x, size_t num_tokens, size_t stride,
                                size_t num_cols, Activations kind, bool apart = false);
inline std::span<Token> prepare_tokens(const Context& context, Scratch& work, const float* x, size_t num_tokens,
                                       size_t stride, size_t num_cols, const Format& format, bool apart = false) {
  const Activations kind = activations_for(context, format.arithmetic);
  return prepare_tokens(context, work, x, num_tokens, stride, num_cols, kind, apart);
}

// sums[panel][t][16] = tokens . the panel's rows (of rows past the end, the last row again). `next` is where the panels
// lie that are multiplied after these, in a matrix like this; null: they follow.
void multiply_panels(const Context& context, const Matrix& matrix, Panels panels, std::span<const Token> tokens,
                     float* sums, const uint8_t* next = nullptr);

}  // namespace apportion
