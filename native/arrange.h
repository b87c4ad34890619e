// Rows as files have them, rearranged in their own memory into the panels that products read (layout.h).
#pragma once

#include "matmul.h"

namespace apportion {

// `rows` is a multiple of 16.
void interleave_in_place(const Format& format, uint8_t* data, size_t rows, size_t row_nbytes, unsigned threads);

}  // namespace apportion
