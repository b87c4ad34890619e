// Rows as files have them, rearranged in their own memory into the panels that products read (layout.h).
#pragma once

#include "matmul.h"

namespace apportion {

// `rows` is a multiple of 16.
void interleave_in_place(const Format& format, uint8_t* data, size_t rows, size_t row_nbytes, unsigned threads);

// The panels of q8_0 [rows, cols] into their upper and lower parts (split.h), unless a scale is negative: then nothing
// is done. Returns whether it was.
bool split_in_place(uint8_t* data, size_t rows, size_t cols, unsigned threads);

}  // namespace apportion
