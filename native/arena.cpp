#include "arena.h"

#include <algorithm>
#include <vector>

#include "kernels.h"

namespace apportion {

namespace {

constexpr size_t kLine = 16;  // numbers in a cache line

bool overlap(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

// The lowest offset where `buffer` fits between those that live beside it, which are sorted by offset.
size_t lowest_gap(const Lifetime& buffer, const std::vector<const Lifetime*>& placed) {
  size_t offset = 0;
  for (const Lifetime* other : placed) {
    if (!overlap(buffer, *other)) continue;
    if (offset + round_up(buffer.width, kLine) <= other->offset) break;
    offset = std::max(offset, other->offset + round_up(other->width, kLine));
  }
  return offset;
}

}  // namespace

size_t place_buffers(std::span<Lifetime> buffers) {
  std::vector<Lifetime*> order;
  for (Lifetime& buffer : buffers) order.push_back(&buffer);
  // Those that live longest first: they would cut the room of the others into pieces.
  std::stable_sort(order.begin(), order.end(),
                   [](const Lifetime* a, const Lifetime* b) { return a->last - a->first > b->last - b->first; });
  std::vector<const Lifetime*> placed;
  size_t total = 0;
  for (Lifetime* buffer : order) {
    buffer->offset = lowest_gap(*buffer, placed);
    total = std::max(total, buffer->offset + round_up(buffer->width, kLine));
    const auto after = std::upper_bound(placed.begin(), placed.end(), buffer,
                                        [](const Lifetime* a, const Lifetime* b) { return a->offset < b->offset; });
    placed.insert(after, buffer);
  }
  return total;
}

}  // namespace apportion
