// Any integer format's group of 32 numbers as codes, scales and minimums: the one place that spells out, number
// by number, what the bits mean. number i = scale * sub[i / 16] * code[i] + min[i / 16].
#pragma once

#include <cstring>

#include "formats.h"
#include "half.h"

namespace apportion {

struct Codes {
  int16_t code[32];
  float scale;
  int16_t sub[2];
  float min[2];
};

namespace detail {

template <class Block>
Block load_block(const uint8_t* row, size_t index) {
  Block block;
  std::memcpy(&block, row + index * sizeof(Block), sizeof(Block));
  return block;
}

static inline int nibble(const uint8_t* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

static inline void set_scale(Codes& out, float scale, float min) {
  out.scale = scale;
  out.sub[0] = out.sub[1] = 1;
  out.min[0] = out.min[1] = min;
}

// q4_k and q5_k: six bits each for the scale and the minimum of group g of 8.
static inline void scale_and_min(const uint8_t* s, int g, int& scale, int& min) {
  if (g < 4) {
    scale = s[g] & 63;
    min = s[g + 4] & 63;
  } else {
    scale = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    min = (s[g + 4] >> 4) | (s[g] >> 6) << 4;
  }
}

// q3_k: six bits for the scale of run r of 16, stored plus 32.
static inline int q3_scale(const uint8_t* s, int r) {
  const int low = r < 8 ? s[r] & 15 : s[r - 8] >> 4;
  return (low | (s[8 + r % 4] >> (2 * (r / 4)) & 3) << 4) - 32;
}

// mxfp4: half of 2^(exponent - 127); the two smallest are subnormal.
static inline float half_power_of_two(uint8_t exponent) {
  return float_from_bits(exponent < 2 ? 0x00200000u << exponent : uint32_t(exponent - 1) << 23);
}

}  // namespace detail

template <FormatId>
void read_codes(const uint8_t* row, size_t group, Codes& out);

template <>
inline void read_codes<FormatId::q8_0>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ8_0>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = b.codes[i];
  detail::set_scale(out, float_from_half(b.d), 0);
}

template <>
inline void read_codes<FormatId::q4_0>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ4_0>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = int16_t(detail::nibble(b.nibbles, i));
  const float d = float_from_half(b.d);
  detail::set_scale(out, d, -8 * d);
}

template <>
inline void read_codes<FormatId::q4_1>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ4_1>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = int16_t(detail::nibble(b.nibbles, i));
  detail::set_scale(out, float_from_half(b.d), float_from_half(b.m));
}

template <>
inline void read_codes<FormatId::q5_0>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ5_0>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = int16_t(detail::nibble(b.nibbles, i) | (b.high >> i & 1) << 4);
  const float d = float_from_half(b.d);
  detail::set_scale(out, d, -16 * d);
}

template <>
inline void read_codes<FormatId::q5_1>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ5_1>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = int16_t(detail::nibble(b.nibbles, i) | (b.high >> i & 1) << 4);
  detail::set_scale(out, float_from_half(b.d), float_from_half(b.m));
}

template <>
inline void read_codes<FormatId::q2_k>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ2K>(row, group / 8);
  const int g = int(group % 8);
  for (int i = 0; i < 32; ++i) out.code[i] = b.codes[g / 4 * 32 + i] >> (2 * (g % 4)) & 3;
  out.scale = float_from_half(b.d);
  const float dmin = float_from_half(b.dmin);
  for (int r = 0; r < 2; ++r) {
    out.sub[r] = b.scales[2 * g + r] & 15;
    out.min[r] = -(dmin * float(b.scales[2 * g + r] >> 4));
  }
}

template <>
inline void read_codes<FormatId::q3_k>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ3K>(row, group / 8);
  const int g = int(group % 8);
  for (int i = 0; i < 32; ++i)
    out.code[i] = int16_t((b.codes[g / 4 * 32 + i] >> (2 * (g % 4)) & 3) | (b.high[i] >> g & 1) << 2);
  out.scale = float_from_half(b.d);
  for (int r = 0; r < 2; ++r) {
    out.sub[r] = int16_t(detail::q3_scale(b.scales, 2 * g + r));
    out.min[r] = -4 * (out.scale * float(out.sub[r]));
  }
}

template <>
inline void read_codes<FormatId::q4_k>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ4K>(row, group / 8);
  const int g = int(group % 8);
  for (int i = 0; i < 32; ++i) out.code[i] = b.nibbles[g / 2 * 32 + i] >> (4 * (g % 2)) & 15;
  int scale, min;
  detail::scale_and_min(b.scales, g, scale, min);
  detail::set_scale(out, float_from_half(b.d) * float(scale), -(float_from_half(b.dmin) * float(min)));
}

template <>
inline void read_codes<FormatId::q5_k>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ5K>(row, group / 8);
  const int g = int(group % 8);
  for (int i = 0; i < 32; ++i)
    out.code[i] = int16_t((b.nibbles[g / 2 * 32 + i] >> (4 * (g % 2)) & 15) | (b.high[i] >> g & 1) << 4);
  int scale, min;
  detail::scale_and_min(b.scales, g, scale, min);
  detail::set_scale(out, float_from_half(b.d) * float(scale), -(float_from_half(b.dmin) * float(min)));
}

template <>
inline void read_codes<FormatId::q6_k>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockQ6K>(row, group / 8);
  const int half = int(group % 8) / 4, quarter = int(group % 4);
  const uint8_t* low = b.low + 64 * half + 32 * (quarter % 2);
  for (int i = 0; i < 32; ++i)
    out.code[i] = int16_t((low[i] >> (4 * (quarter / 2)) & 15) | (b.high[32 * half + i] >> (2 * quarter) & 3) << 4);
  out.scale = float_from_half(b.d);
  for (int r = 0; r < 2; ++r) {
    out.sub[r] = b.scales[2 * (group % 8) + r];
    out.min[r] = -32 * (out.scale * float(out.sub[r]));
  }
}

template <>
inline void read_codes<FormatId::iq4_nl>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockIq4Nl>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = kIq4Values[detail::nibble(b.nibbles, i)];
  detail::set_scale(out, float_from_half(b.d), 0);
}

template <>
inline void read_codes<FormatId::iq4_xs>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockIq4Xs>(row, group / 8);
  const int g = int(group % 8);
  for (int i = 0; i < 32; ++i) out.code[i] = kIq4Values[detail::nibble(b.nibbles + 16 * g, i)];
  const int scale = (b.scales_low[g / 2] >> (4 * (g % 2)) & 15) | (b.scales_high >> (2 * g) & 3) << 4;
  detail::set_scale(out, float_from_half(b.d) * float(scale - 32), 0);
}

template <>
inline void read_codes<FormatId::mxfp4>(const uint8_t* row, size_t group, Codes& out) {
  const auto b = detail::load_block<BlockMxfp4>(row, group);
  for (int i = 0; i < 32; ++i) out.code[i] = int16_t(kMxfp4Values[detail::nibble(b.nibbles, i)] + 12);
  const float d = detail::half_power_of_two(b.exponent);
  detail::set_scale(out, d, -12 * d);
}

}  // namespace apportion
