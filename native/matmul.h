// Products of activations with weight matrices in any format.
#pragma once

#include <span>

#include "context.h"
#include "workspace.h"

namespace apportion {

// Rows of one matrix, one after the other; or, interleaved, panels of 16 rows one after the other.
struct Matrix {
  const Format* format;
  const uint8_t* data;
  size_t rows, cols;
  bool interleaved = false;

  size_t nbytes() const { return rows * format->row_nbytes(cols); }
  size_t num_panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

// How activations are stored for products with formats of this arithmetic.
Activations activations_for(const Context& context, Arithmetic arithmetic);

// Rows x[t * stride ..] as the products with this format want them; `apart` asks for outliers beside bytes.
std::span<Token> prepare_tokens(const Context& context, Scratch& work, const float* x, size_t num_tokens, size_t stride,
                                size_t num_cols, const Format& format, bool apart = false);

// sums[t][16] = tokens . the matrix's rows 16 * panel .. (of rows past the end, the last row again).
void multiply_panel(const Context& context, const Matrix& matrix, size_t panel, std::span<const Token> tokens,
                    float* sums);

}  // namespace apportion
