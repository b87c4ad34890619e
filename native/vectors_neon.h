// What the products are written in, with NEON; with its dot products where the compiler may use them.
//
//                        four columns of four rows, times four activations
//   with dot products    sdot: added to the rows' 32-bit sums
//   without              smlal: eight sums of 16 bits for two rows, which are widened now and then
#pragma once

#include "vectors_quads.h"

namespace apportion::APPORTION_ISA {

inline constexpr size_t kFewTokens = 8;  // for as many, unpacking codes again and again is less work than storing them
// Tokens computed together, their sums in registers: with integer codes of a panel, of two panels without and with
// integer scales (0: one after the other), and with floats.
inline constexpr int kCodesTile = 3, kPairTile = 0, kScaledPairTile = 0, kFloatsTile = 6;

// Bits first .. first + 3 of each lane, as 16 or 0 in its four bytes.
APPORTION_INLINE Bytes spread_bits(const Bytes& lanes, int first) {
  const uint8x16_t bits = (uint8x16_t)four_bits(first), places = (uint8x16_t)place_of_bits(first);
  return each<Bytes>([&](int h) {
    return (Byte16)vandq_u8(vtstq_u8(vqtbl1q_u8((uint8x16_t)lanes.v[h], places), bits), vdupq_n_u8(16));
  });
}
// table[code], for codes below 16.
APPORTION_INLINE Bytes look_up(const int8_t* table, const Bytes& codes) {
  const int8x16_t t = vld1q_s8(table);
  return each<Bytes>([&](int h) { return (Byte16)vqtbl1q_s8(t, (uint8x16_t)codes.v[h]); });
}

APPORTION_INLINE int32x4_t four_bytes(const void* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return vdupq_n_s32(four);
}

// Unsigned codes times int8, four columns at a time. No code is above 127, so that the codes are int8 as well.
#if defined(__ARM_FEATURE_DOTPROD)

struct UnsignedSum {
  using Codes = Bytes;
  using X = int8_t;
  static constexpr bool kWide = true;
  int32x4_t v[4];

  static APPORTION_INLINE Codes prepare(const Bytes& codes) { return codes; }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    for (int32x4_t& sum : v) sum = vdupq_n_s32(0);
    add(codes, x);
  }
  APPORTION_INLINE void begin_at(const Ints& from, const Codes& codes, const X* x) {
    for (int h = 0; h < 4; ++h) v[h] = (int32x4_t)from.v[h];
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const int8x16_t four = vreinterpretq_s8_s32(four_bytes(x));
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) v[h] = vdotq_s32(v[h], (int8x16_t)codes.v[h], four);
  }
  APPORTION_INLINE Ints total() const { return {{(Int4)v[0], (Int4)v[1], (Int4)v[2], (Int4)v[3]}}; }
  template <int Offset>
  static APPORTION_INLINE Ints total(const UnsignedSum& first, const UnsignedSum& second, const int16_t* sums,
                                     const Subs& subs) {
    return total_of_halves<Offset>(first.total(), second.total(), sums, subs);
  }
};

#else

struct UnsignedSum {
  using Codes = Bytes;
  using X = int8_t;
  static constexpr bool kWide = false;
  int16x8_t low[4], high[4];  // of the first two rows of each vector of codes, and of the other two

  static APPORTION_INLINE Codes prepare(const Bytes& codes) { return codes; }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    const int8x16_t four = vreinterpretq_s8_s32(four_bytes(x));
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      low[h] = vmull_s8(vget_low_s8((int8x16_t)codes.v[h]), vget_low_s8(four));
      high[h] = vmull_high_s8((int8x16_t)codes.v[h], four);
    }
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const int8x16_t four = vreinterpretq_s8_s32(four_bytes(x));
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      low[h] = vmlal_s8(low[h], vget_low_s8((int8x16_t)codes.v[h]), vget_low_s8(four));
      high[h] = vmlal_high_s8(high[h], (int8x16_t)codes.v[h], four);
    }
  }
  // Two neighbours' sum still fits 16 bits: a class of codes has no more products than stay below 2^14 (panels.h).
  APPORTION_INLINE Ints total() const {
    return each<Ints>([&](int h) { return (Int4)vpaddlq_s16(vpaddq_s16(low[h], high[h])); });
  }
  APPORTION_INLINE Ints total(const Subs& subs, int half) const { return total() * subs.halves[half]; }
};

#endif

// Signed codes times 13-bit activations, both as int16: columns k and k + 2 first, then k + 1 and k + 3.
struct SignedSum {
  using Codes = Pairs;
  using X = int16_t;
  static constexpr bool kWide = true;
  int32x4_t low[4], high[4];

  static APPORTION_INLINE Codes prepare(const Bytes& codes) {
    Codes out;
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      out.even[h] = ((Word8)codes.v[h] << 8) >> 8;
      out.odd[h] = (Word8)codes.v[h] >> 8;
    }
    return out;
  }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) low[h] = high[h] = vdupq_n_s32(0);
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const int16x8_t even = vreinterpretq_s16_s32(four_bytes(x)), odd = vreinterpretq_s16_s32(four_bytes(x + 2));
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      low[h] = vmlal_s16(low[h], vget_low_s16((int16x8_t)codes.even[h]), vget_low_s16(even));
      high[h] = vmlal_high_s16(high[h], (int16x8_t)codes.even[h], even);
      low[h] = vmlal_s16(low[h], vget_low_s16((int16x8_t)codes.odd[h]), vget_low_s16(odd));
      high[h] = vmlal_high_s16(high[h], (int16x8_t)codes.odd[h], odd);
    }
  }
  APPORTION_INLINE Ints total() const {
    return each<Ints>([&](int h) { return (Int4)vpaddq_s32(low[h], high[h]); });
  }
};

}  // namespace apportion::APPORTION_ISA
