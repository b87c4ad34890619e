#include "layout.h"

#include <algorithm>
#include <cstring>
#include <utility>

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

// One element after the other, of 16 rows each.
template <size_t Width>
void spread_some(const uint8_t* const* rows, size_t offset, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i)
    for (size_t r = 0; r < kPanelRows; ++r, out += Width) std::memcpy(out, rows[r] + offset + i * Width, Width);
}

template <size_t Width>
struct Element;
template <>
struct Element<2> {
  using Vector = uint16_t __attribute__((vector_size(16)));
};
template <>
struct Element<4> {
  using Vector = uint32_t __attribute__((vector_size(16)));
};

// Elements of both, in turn: of their first halves, or of their second ones.
template <bool Second, class Vector, size_t... I>
Vector alternating(Vector a, Vector b, std::index_sequence<I...>) {
  constexpr size_t kCount = sizeof...(I), kFirst = Second ? kCount / 2 : 0;
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, int(kFirst + I / 2 + (I % 2 ? kCount : 0))...);
#else
  return __builtin_shuffle(a, b, Vector{(kFirst + I / 2 + (I % 2 ? kCount : 0))...});
#endif
}

// A square of elements, 16 bytes of each row -> the first of every row, the second of every row, and so on: each pass
// puts vectors side by side that are half of the square apart.
template <class Vector, size_t N>
void transpose(Vector (&square)[N]) {
  constexpr auto kEach = std::make_index_sequence<N>();
  for (size_t pass = 1; pass < N; pass *= 2) {
    Vector next[N];
    for (size_t i = 0; i < N / 2; ++i) {
      next[2 * i] = alternating<false>(square[i], square[i + N / 2], kEach);
      next[2 * i + 1] = alternating<true>(square[i], square[i + N / 2], kEach);
    }
    std::copy_n(next, N, square);
  }
}

template <size_t Width>
void spread(const uint8_t* const* rows, size_t offset, size_t count, uint8_t* out) {
  size_t i = 0;
  if constexpr (Width > 1) {
    using Vector = typename Element<Width>::Vector;
    constexpr size_t N = sizeof(Vector) / Width;
    for (; i + N <= count; i += N) {
      for (size_t r = 0; r < kPanelRows; r += N) {
        Vector square[N];
        for (size_t k = 0; k < N; ++k) std::memcpy(&square[k], rows[r + k] + offset + i * Width, sizeof(Vector));
        transpose(square);
        for (size_t k = 0; k < N; ++k)
          std::memcpy(out + ((i + k) * kPanelRows + r) * Width, &square[k], sizeof(Vector));
      }
    }
  }
  spread_some<Width>(rows, offset + i * Width, count - i, out + i * kPanelRows * Width);
}

// `count` elements of a field, which begin at `offset` in each row.
void spread_field(const Field& field, const uint8_t* const* rows, size_t offset, size_t count, uint8_t* out) {
  if (field.width == 4)
    spread<4>(rows, offset, count, out);
  else if (field.width == 2)
    spread<2>(rows, offset, count, out);
  else
    spread<1>(rows, offset, count, out);
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
  if (fields.size() == 1)
    return spread_field(fields[0], rows, first * format.block_nbytes, count * fields[0].count, panel);
  for (size_t b = first; b < first + count; ++b) {
    size_t offset = b * format.block_nbytes;
    for (const Field& field : fields) {
      spread_field(field, rows, offset, field.count, panel);
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
