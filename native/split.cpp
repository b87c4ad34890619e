// Panels of q8_0 into their upper and lower parts (split.h), and back.
#include "split.h"

#include <cstring>
#include <utility>

#include "isa.h"
#include "panels.h"

namespace apportion::APPORTION_ISA {

namespace {

using Q8 = Reader<FormatId::q8_0>;

constexpr size_t kCodesAt = kPanelRows * 2;  // behind the scales, in panels and in upper parts

void store_bytes(uint8_t* p, const Bytes& bytes) {
  static_assert(sizeof bytes == 64);
  std::memcpy(p, &bytes, sizeof bytes);
}

template <int... J>
void split_block(const uint8_t* from, uint8_t* upper, uint8_t* lower, std::integer_sequence<int, J...>) {
  const Bytes codes[] = {turned_sign(Q8::codes<0, J>(from))...};
  std::memcpy(upper, from, kCodesAt);
  store_bytes(upper + kCodesAt, (bits<3, 1, J>(codes[J]) | ...));
  for (int j = 0; j < 4; ++j)
    store_bytes(upper + kCodesAt + 64 + 64 * j, bits<4, 15, 0>(codes[j]) | bits<4, 15, 4>(codes[j + 4]));
  for (int j = 0; j < 2; ++j)
    store_bytes(lower + 64 * j, bits<1, 3, 0>(codes[j]) | bits<1, 3, 2>(codes[j + 2]) | bits<1, 3, 4>(codes[j + 4]) |
                                    bits<1, 3, 6>(codes[j + 6]));
  store_bytes(lower + 128, (bits<0, 1, J>(codes[J]) | ...));
}

template <int... J>
void join_block(const uint8_t* upper, const uint8_t* lower, uint8_t* to, std::integer_sequence<int, J...>) {
  std::memcpy(to, upper, kCodesAt);
  (store_bytes(to + kCodesAt + 64 * J, joined_codes<J>(upper, lower)), ...);
}

}  // namespace

void split_panel(const uint8_t* panel, size_t num_blocks, uint8_t* upper, uint8_t* lower) {
  for (size_t b = 0; b < num_blocks; ++b)
    split_block(panel + b * Q8::kBlockNbytes, upper + b * kUpperNbytes, lower + b * kLowerNbytes,
                std::make_integer_sequence<int, 8>());
}

void join_panel(const uint8_t* upper, const uint8_t* lower, size_t num_blocks, uint8_t* panel) {
  for (size_t b = 0; b < num_blocks; ++b)
    join_block(upper + b * kUpperNbytes, lower + b * kLowerNbytes, panel + b * Q8::kBlockNbytes,
               std::make_integer_sequence<int, 8>());
}

}  // namespace apportion::APPORTION_ISA
