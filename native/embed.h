// Rows of a matrix as numbers.
#pragma once

#include <span>

#include "matmul.h"

namespace apportion {

// One row's numbers.
void decode_row(const Format& format, const uint8_t* row, size_t num_cols, float* out);

// Row ids[t] of the table -> out [T, cols]. Every id must be below table.rows.
void embed(const Context& context, const Matrix& table, std::span<const int32_t> ids, float* out);

}  // namespace apportion
