// Rows of any format -> panels, number by number; the instruction sets replace what they do faster.
#include "codes.h"
#include "isa.h"
#if defined(APPORTION_AVX2)
#include "unpack_avx2.h"
#endif

namespace apportion::APPORTION_ISA {

namespace {

// Byte of number k of a group in its half of a panel.
constexpr size_t byte_place(size_t row, size_t k) { return k / 4 * 32 + row * 4 + k % 4; }
// The same for int16 pairs (k, k + 2) and (k + 1, k + 3).
constexpr size_t pair_place(size_t row, size_t k) { return k / 4 * 32 + k % 2 * 16 + row * 2 + k % 4 / 2; }

template <bool Signed>
void put_codes(const Codes& codes, Panel& panel, size_t group, size_t half, size_t row) {
  if constexpr (Signed) {
    int16_t* place = reinterpret_cast<int16_t*>(panel.codes) + (group * 2 + half) * 256;
    for (size_t k = 0; k < kGroup; ++k) place[pair_place(row, k)] = codes.code[k];
  } else {
    uint8_t* place = panel.codes + (group * 2 + half) * 256;
    for (size_t k = 0; k < kGroup; ++k) place[byte_place(row, k)] = uint8_t(codes.code[k]);
  }
}

template <FormatId Id, bool Signed>
[[maybe_unused]] void unpack_rows(const uint8_t* const* rows, size_t first, size_t begin, size_t end, Panel& panel,
                                  size_t half) {
  Codes codes;
  for (size_t group = begin; group < end; ++group) {
    for (size_t row = 0; row < kHalfRows; ++row) {
      read_codes<Id>(rows[row], first + group, codes);
      put_codes<Signed>(codes, panel, group, half, row);
      const size_t place = half * kHalfRows + row;
      panel.scales[group][place] = codes.scale;
      for (int r = 0; r < 2; ++r) {
        panel.mins[group][r][place] = codes.min[r];
        panel.subs[group][r][place][0] = panel.subs[group][r][place][1] = codes.sub[r];
      }
    }
  }
}

}  // namespace

Unpack unpack(FormatId format) {
  switch (format) {
#if defined(APPORTION_AVX2)
    case FormatId::q8_0: return unpack_q8_0;
    case FormatId::q4_0: return unpack_q4_0;
    case FormatId::q4_1: return unpack_q4_1;
    case FormatId::q5_0: return unpack_q5_0;
    case FormatId::q5_1: return unpack_q5_1;
    case FormatId::q2_k: return unpack_q2_k;
    case FormatId::q3_k: return unpack_q3_k;
    case FormatId::q4_k: return unpack_q4_k;
    case FormatId::q5_k: return unpack_q5_k;
    case FormatId::q6_k: return unpack_q6_k;
    case FormatId::iq4_nl: return unpack_iq4_nl;
    case FormatId::iq4_xs: return unpack_iq4_xs;
    case FormatId::mxfp4: return unpack_mxfp4;
#else
    case FormatId::q8_0: return unpack_rows<FormatId::q8_0, true>;
    case FormatId::q4_0: return unpack_rows<FormatId::q4_0, false>;
    case FormatId::q4_1: return unpack_rows<FormatId::q4_1, false>;
    case FormatId::q5_0: return unpack_rows<FormatId::q5_0, false>;
    case FormatId::q5_1: return unpack_rows<FormatId::q5_1, false>;
    case FormatId::q2_k: return unpack_rows<FormatId::q2_k, false>;
    case FormatId::q3_k: return unpack_rows<FormatId::q3_k, false>;
    case FormatId::q4_k: return unpack_rows<FormatId::q4_k, false>;
    case FormatId::q5_k: return unpack_rows<FormatId::q5_k, false>;
    case FormatId::q6_k: return unpack_rows<FormatId::q6_k, false>;
    case FormatId::iq4_nl: return unpack_rows<FormatId::iq4_nl, true>;
    case FormatId::iq4_xs: return unpack_rows<FormatId::iq4_xs, true>;
    case FormatId::mxfp4: return unpack_rows<FormatId::mxfp4, false>;
#endif
    default: return nullptr;
  }
}

}  // namespace apportion::APPORTION_ISA
