// A matrix of q8_0 in two parts: the upper five bits of every code, which bound a product from above, and the lower
// three. Most of a large vocabulary is ruled out by the first part alone (best.h). Together they are the panels' bytes.
//
//   64 panels      | their upper parts | their lower parts |     then the next 64
//   upper block    | d (32 bytes) | bit 3 (64) | 4 x bits 4 .. 7 (64 each) |
//   lower block    | 2 x bits 1 and 2 (64 each) | bit 0 (64) |
//
// Codes are kept with 128 added. Byte 4 r + i of a load is of row r. Of its numbers 4 j + i, j = 0 .. 7: single bits
// are bit j of the byte; bits 4 to 7 are a half of load j % 4, the lower one for j < 4; bits 1 and 2 are bits 2 (j / 2)
// and on of load j % 2.
#pragma once

#include <algorithm>

#include "kernels.h"

namespace apportion {

inline constexpr size_t kUpperNbytes = kPanelRows * 22, kLowerNbytes = kPanelRows * 12;  // of a block
inline constexpr size_t kSplitTogether = 64;                                             // panels

struct SplitPanel {
  const uint8_t *upper, *lower;

  // One of those that follow, of the same 64.
  SplitPanel after(size_t panels, size_t num_blocks) const {
    return {upper + panels * num_blocks * kUpperNbytes, lower + panels * num_blocks * kLowerNbytes};
  }
};

// Where a panel's parts are, of a split matrix of `num_panels`.
inline SplitPanel find_split(const uint8_t* data, size_t num_panels, size_t num_blocks, size_t panel) {
  const size_t first = panel / kSplitTogether * kSplitTogether, own = panel - first;
  const size_t count = std::min(kSplitTogether, num_panels - first);
  const uint8_t* const upper = data + first * num_blocks * (kUpperNbytes + kLowerNbytes);
  return {upper + own * num_blocks * kUpperNbytes, upper + num_blocks * (count * kUpperNbytes + own * kLowerNbytes)};
}

}  // namespace apportion
