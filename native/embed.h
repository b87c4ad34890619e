// Rows of a matrix as numbers.
#pragma once

#include <span>

#include "matmul.h"

namespace apportion {

// A row of a matrix as files have it: where it lies, or, if it lies in pieces, put together in `room` of a row's bytes.
const uint8_t* find_row(const Matrix& matrix, size_t row, uint8_t* room);

// One row's numbers.
void decode_row(const Format& format, const uint8_t* row, size_t num_cols, float* out);

// Row ids[t] of the table -> out [T, cols]. Every id must be below table.rows.
void embed(const Context& context, const Matrix& table, std::span<const int32_t> ids, float* out);

}  // namespace apportion
