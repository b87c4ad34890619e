#include "embed.h"

#include "codes.h"
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

}  // namespace

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
  const Format& format = *table.format;
  const size_t row_nbytes = format.row_nbytes(table.cols), num_blocks = table.cols / format.block_size;
  Workspace work;
  const std::span<uint8_t> rows = work.take<uint8_t>(table.interleaved ? context.threads * row_nbytes : 0);
  Pool::shared().run(ids.size(), 8, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t t = begin; t < end; ++t) {
      const size_t id = size_t(ids[t]), in_panel = id % kPanelRows;
      const uint8_t* row = table.data + id * row_nbytes;
      if (table.interleaved) {
        uint8_t* own = rows.data() + worker * row_nbytes;
        take_row(format, table.data + (id - in_panel) * row_nbytes, in_panel, num_blocks, own);
        row = own;
      }
      decode_row(format, row, table.cols, out + t * table.cols);
    }
  });
}

}  // namespace apportion
