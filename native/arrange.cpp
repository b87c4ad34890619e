#include "arrange.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu.h"
#include "half.h"
#include "pool.h"
#include "split.h"

namespace apportion {

namespace {

constexpr size_t kMostScratch = 4 << 20;  // of all threads, where one needs less

bool has_negative_scale(const uint8_t* panels, size_t num_blocks) {
  for (size_t b = 0; b < num_blocks; ++b, panels += kUpperNbytes + kLowerNbytes) {
    uint16_t scales[kPanelRows];
    std::memcpy(scales, panels, sizeof scales);
    for (const uint16_t scale : scales)
      if (float_from_half(scale) < 0) return true;
  }
  return false;
}

}  // namespace

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

bool split_in_place(uint8_t* data, size_t rows, size_t cols, unsigned threads) {
  const Kernels& kernels = *find_kernels("");
  const size_t num_panels = rows / kPanelRows, num_blocks = cols / kGroup;
  const size_t panel_nbytes = num_blocks * (kUpperNbytes + kLowerNbytes), lower_nbytes = num_blocks * kLowerNbytes;
  std::atomic<bool> negative = false;
  Pool::shared().run(num_panels, kSplitTogether, threads, [&](size_t begin, size_t end, unsigned) {
    if (has_negative_scale(data + begin * panel_nbytes, (end - begin) * num_blocks)) negative = true;
  });
  if (negative) return false;

  Workspace work;
  const size_t room = panel_nbytes + kSplitTogether * lower_nbytes;
  threads = std::clamp<unsigned>(unsigned(kMostScratch / room), 1, threads);
  const std::span<uint8_t> rooms = work.take<uint8_t>(threads * room);
  Pool::shared().run(num_panels, kSplitTogether, threads, [&](size_t begin, size_t end, unsigned worker) {
    uint8_t *const copy = rooms.data() + worker * room, *const lower = copy + panel_nbytes;
    for (size_t first = begin; first < end; first += kSplitTogether) {
      const size_t count = std::min(kSplitTogether, end - first);
      uint8_t* const together = data + first * panel_nbytes;
      for (size_t i = 0; i < count; ++i) {  // upper parts never pass the panel that comes next
        std::copy_n(together + i * panel_nbytes, panel_nbytes, copy);
        kernels.split_panel(copy, num_blocks, together + i * num_blocks * kUpperNbytes, lower + i * lower_nbytes);
      }
      std::copy_n(lower, count * lower_nbytes, together + count * num_blocks * kUpperNbytes);
    }
  });
  return true;
}

}  // namespace apportion
