#include "embed.h"

#include "codes.h"
#include "split.h"
#include "workspace.h"

namespace apportion {

namespace {

template <FormatId Id>
void decode_codes(const uint8_t* row, size_t num_cols, float* out) {
  Codes codes;
  for (size_t group = 0; group < num_cols / kGroup; ++group) {
    read_codes<Id>(row, group, codes);
    for (size_t i = 0; i < kGroup; ++i) {
      const float scale = codes.scale * float(codes.sub[i / 16]);
      out[group * kGroup + i] = scale * float(codes.code[i]) + codes.min[i / 16];
    }
  }
}

template <class Bits, class Convert>
void decode_numbers(const uint8_t* row, size_t num_cols, float* out, Convert convert) {
  for (size_t i = 0; i < num_cols; ++i) {
    Bits bits;
    std::memcpy(&bits, row + i * sizeof(Bits), sizeof(Bits));
    out[i] = convert(bits);
  }
}

// A row of a panel in two parts.
void take_split_row(const SplitPanel& panel, size_t row, size_t num_blocks, uint8_t* out) {
  const uint8_t *upper = panel.upper, *lower = panel.lower;
  for (size_t b = 0; b < num_blocks; ++b, upper += kUpperNbytes, lower += kLowerNbytes) {
    std::memcpy(out, upper + 2 * row, 2);
    out += 2;
    for (size_t n = 0; n < kGroup; ++n) {
      const size_t j = n / 4, at = 4 * row + n % 4;
      const int four = upper[96 + 64 * (j % 4) + at] >> j / 4 * 4 & 15, third = upper[32 + at] >> j & 1;
      const int two = lower[64 * (j % 2) + at] >> j / 2 * 2 & 3, last = lower[128 + at] >> j & 1;
      *out++ = uint8_t((four << 4 | third << 3 | two << 1 | last) - 128);
    }
  }
}

}  // namespace

const uint8_t* find_row(const Matrix& matrix, size_t row, uint8_t* room) {
  const Format& format = *matrix.format;
  const size_t row_nbytes = format.row_nbytes(matrix.cols), num_blocks = matrix.cols / format.block_size;
  const size_t in_panel = row % kPanelRows;
  if (matrix.split)
    take_split_row(find_split(matrix.data, matrix.num_panels(), num_blocks, row / kPanelRows), in_panel, num_blocks,
                   room);
  else if (matrix.interleaved)
    take_row(format, matrix.data + (row - in_panel) * row_nbytes, in_panel, num_blocks, room);
  else
    return matrix.data + row * row_nbytes;
  return room;
}

void decode_row(const Format& format, const uint8_t* row, size_t num_cols, float* out) {
  switch (format.id) {
    case FormatId::f32: return decode_numbers<uint32_t>(row, num_cols, out, float_from_bits);
    case FormatId::f16: return decode_numbers<uint16_t>(row, num_cols, out, float_from_half);
    case FormatId::bf16: return decode_numbers<uint16_t>(row, num_cols, out, float_from_bf16);
    case FormatId::q8_0: return decode_codes<FormatId::q8_0>(row, num_cols, out);
    case FormatId::q4_0: return decode_codes<FormatId::q4_0>(row, num_cols, out);
    case FormatId::q4_1: return decode_codes<FormatId::q4_1>(row, num_cols, out);
    case FormatId::q5_0: return decode_codes<FormatId::q5_0>(row, num_cols, out);
    case FormatId::q5_1: return decode_codes<FormatId::q5_1>(row, num_cols, out);
    case FormatId::q2_k: return decode_codes<FormatId::q2_k>(row, num_cols, out);
    case FormatId::q3_k: return decode_codes<FormatId::q3_k>(row, num_cols, out);
    case FormatId::q4_k: return decode_codes<FormatId::q4_k>(row, num_cols, out);
    case FormatId::q5_k: return decode_codes<FormatId::q5_k>(row, num_cols, out);
    case FormatId::q6_k: return decode_codes<FormatId::q6_k>(row, num_cols, out);
    case FormatId::iq4_nl: return decode_codes<FormatId::iq4_nl>(row, num_cols, out);
    case FormatId::iq4_xs: return decode_codes<FormatId::iq4_xs>(row, num_cols, out);
    case FormatId::mxfp4: return decode_codes<FormatId::mxfp4>(row, num_cols, out);
    case FormatId::count: break;
  }
}

void embed(const Context& context, const Matrix& table, std::span<const int32_t> ids, float* out) {
  const size_t row_nbytes = table.format->row_nbytes(table.cols);
  Workspace work;
  const std::span<uint8_t> rooms = work.take<uint8_t>(context.threads * row_nbytes);
  Pool::shared().run(ids.size(), 8, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t t = begin; t < end; ++t) {
      const uint8_t* row = find_row(table, size_t(ids[t]), rooms.data() + worker * row_nbytes);
      decode_row(*table.format, row, table.cols, out + t * table.cols);
    }
  });
}

}  // namespace apportion
