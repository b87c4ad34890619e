// The best row of a split matrix (split.h) for each token: what greedy decoding wants of a head, and most of a small
// model's bytes. The upper parts alone give a number that a row's product cannot exceed. Only panels whose number is
// not below the best product found are then multiplied whole: of a real vocabulary, some tens.
//
// The result is what comparing all products would give, to the bit: products are made of sums that each grow with the
// code, and so does rounding, where no scale is negative.
#pragma once

#include <span>

#include "matmul.h"

namespace apportion {

// x [T, K] -> the largest product of each token and its row [T], of equal ones the first, or the first that is NaN; of
// rows below `num_rows` that are not in `without` (ascending). Where none is left, minus infinity and 0. Returns the
// panels that were multiplied whole, of all tokens, at most.
size_t find_best_rows(const Context& context, const float* x, size_t num_tokens, const Matrix& matrix, size_t num_rows,
                      std::span<const int32_t> without, float* values, int32_t* rows);

}  // namespace apportion
