#include "layout.h"

#include <cstring>

namespace apportion {

namespace {

constexpr Field kFloat[] = {{4, 1}};
constexpr Field kHalf[] = {{2, 1}};
constexpr Field kQ8_0[] = {{2, 1}, {4, 8}};                   // d, codes
constexpr Field kNibbles[] = {{2, 1}, {4, 4}};                // d, nibbles: q4_0 and iq4_nl
constexpr Field kQ4_1[] = {{2, 2}, {4, 4}};                   // d and m, nibbles
constexpr Field kQ5_0[] = {{2, 1}, {4, 1}, {4, 4}};           // d, fifth bits, nibbles
constexpr Field kQ5_1[] = {{2, 2}, {4, 1}, {4, 4}};           // d and m, fifth bits, nibbles
constexpr Field kQ2K[] = {{4, 4}, {4, 16}, {2, 2}};           // scales and minimums, codes, d and dmin
constexpr Field kQ3K[] = {{4, 8}, {4, 16}, {4, 3}, {2, 1}};   // third bits, codes, scales, d
constexpr Field kQ4K[] = {{2, 2}, {4, 3}, {4, 32}};           // d and dmin, scales and minimums, nibbles
constexpr Field kQ5K[] = {{2, 2}, {4, 3}, {4, 8}, {4, 32}};   // the same with fifth bits before the nibbles
constexpr Field kQ6K[] = {{4, 32}, {4, 16}, {4, 4}, {2, 1}};  // low bits, high bits, scales, d
constexpr Field kIq4Xs[] = {{2, 2}, {4, 1}, {4, 32}};         // d and high bits of scales, low bits, nibbles
constexpr Field kMxfp4[] = {{1, 1}, {4, 4}};                  // exponent, nibbles

template <size_t Width>
void spread(const uint8_t* const* rows, size_t offset, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i)
    for (size_t r = 0; r < kPanelRows; ++r, out += Width) std::memcpy(out, rows[r] + offset + i * Width, Width);
}

}  // namespace

std::span<const Field> fields_of(FormatId format) {
  switch (format) {
    case FormatId::f32: return kFloat;
    case FormatId::f16:
    case FormatId::bf16: return kHalf;
    case FormatId::q8_0: return kQ8_0;
    case FormatId::q4_0:
    case FormatId::iq4_nl: return kNibbles;
    case FormatId::q4_1: return kQ4_1;
    case FormatId::q5_0: return kQ5_0;
    case FormatId::q5_1: return kQ5_1;
    case FormatId::q2_k: return kQ2K;
    case FormatId::q3_k: return kQ3K;
    case FormatId::q4_k: return kQ4K;
    case FormatId::q5_k: return kQ5K;
    case FormatId::q6_k: return kQ6K;
    case FormatId::iq4_xs: return kIq4Xs;
    case FormatId::mxfp4: return kMxfp4;
    case FormatId::count: break;
  }
  return {};
}

void interleave(const Format& format, const uint8_t* const* rows, size_t first, size_t count, uint8_t* panel) {
  const std::span<const Field> fields = fields_of(format.id);
  for (size_t b = first; b < first + count; ++b) {
    size_t offset = b * format.block_nbytes;
    for (const Field& field : fields) {
      if (field.width == 4)
        spread<4>(rows, offset, field.count, panel);
      else if (field.width == 2)
        spread<2>(rows, offset, field.count, panel);
      else
        spread<1>(rows, offset, field.count, panel);
      offset += size_t(field.width) * field.count;
      panel += kPanelRows * field.width * field.count;
    }
  }
}

void take_row(const Format& format, const uint8_t* panel, size_t row, size_t num_blocks, uint8_t* out) {
  const std::span<const Field> fields = fields_of(format.id);
  for (size_t b = 0; b < num_blocks; ++b) {
    for (const Field& field : fields) {
      for (size_t i = 0; i < field.count; ++i, out += field.width, panel += kPanelRows * field.width)
        std::memcpy(out, panel + row * field.width, field.width);
    }
  }
}

}  // namespace apportion
