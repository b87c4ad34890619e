// How 16 rows of a matrix are interleaved into a panel, so that one load brings the same columns of every row and
// nothing is ever shuffled while products are computed.
//
// A block format's row is blocks; a block is fields, a field is elements of 1, 2 or 4 bytes. A panel keeps the blocks'
// order. Within a block it keeps, field by field and element by element, the 16 rows' elements side by side. For q4_1,
// whose rows are blocks of 32 numbers,
//
//   row:    | d | m | 4 bytes: nibbles of numbers 0-3, 16-19 | 4 bytes: 4-7, 20-23 | 4 bytes | 4 bytes |
//   panel:  | d of row 0, 1, .. 15 | m of row 0 .. 15 | 4 bytes of row 0 .. 15 | 4 bytes of row 0 .. 15 | .. | .. |
//
// so a 512-bit register holds one element of the last kind: 16 lanes, one for each row. A panel has exactly the bytes
// of its 16 rows, and is rearranged in its place.
#pragma once

#include <span>

#include "formats.h"

namespace apportion {

inline constexpr size_t kPanelRows = 16;

// `count` elements of `width` bytes each, one after the other in a block.
struct Field {
  uint8_t width, count;
};

// The fields of a format's block, in order; they fill it.
std::span<const Field> fields_of(FormatId format);

// Blocks first .. first + count - 1 of 16 rows -> the same blocks of a panel. Rows may repeat.
void interleave(const Format& format, const uint8_t* const* rows, size_t first, size_t count, uint8_t* panel);

// One row of a panel of `num_blocks` blocks -> its blocks as the file has them.
void take_row(const Format& format, const uint8_t* panel, size_t row, size_t num_blocks, uint8_t* out);

}  // namespace apportion
