#include "arrange.h"

#include <algorithm>

#include "pool.h"

namespace apportion {

void interleave_in_place(const Format& format, uint8_t* data, size_t rows, size_t row_nbytes, unsigned threads) {
  Workspace work;
  const size_t panel_nbytes = kPanelRows * row_nbytes, num_blocks = row_nbytes / format.block_nbytes;
  const std::span<uint8_t> room = work.take<uint8_t>(threads * panel_nbytes);
  Pool::shared().run(rows / kPanelRows, 1, threads, [&](size_t begin, size_t end, unsigned worker) {
    uint8_t* copy = room.data() + worker * panel_nbytes;
    const uint8_t* from[kPanelRows];
    for (size_t r = 0; r < kPanelRows; ++r) from[r] = copy + r * row_nbytes;
    for (size_t panel = begin; panel < end; ++panel) {
      uint8_t* place = data + panel * panel_nbytes;
      std::copy_n(place, panel_nbytes, copy);
      interleave(format, from, 0, num_blocks, place);
    }
  });
}

}  // namespace apportion
