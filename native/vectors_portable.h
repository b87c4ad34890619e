// What the products are written in, for any processor.
#pragma once

#include "vectors_quads.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace apportion::APPORTION_ISA {

inline constexpr size_t kFewTokens = 1;  // for as many, unpacking codes again and again is less work than storing them
// Tokens computed together, their sums in registers: with integer codes of a panel, of two panels without and with
// integer scales (0: one after the other), and with floats.
inline constexpr int kCodesTile = 2, kPairTile = 0, kScaledPairTile = 0, kFloatsTile = 3;

// table[code], for codes below 16.
APPORTION_INLINE Bytes look_up(const int8_t* table, const Bytes& codes) {
  uint8_t lanes[64];
  std::memcpy(lanes, codes.v, sizeof lanes);
  for (uint8_t& lane : lanes) lane = uint8_t(table[lane]);
  return load_bytes(lanes);
}

// Both products of each lane's pairs, added up: the one thing that x86-64 has an instruction for and operators do not
// say.
APPORTION_INLINE Int4 multiply_pairs(Word8 a, Word8 b) {
#if defined(__SSE2__)
  return (Int4)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const auto low = [](Word8 pairs) { return (Int4)((Uint4)pairs << 16) >> 16; };
  const auto high = [](Word8 pairs) { return (Int4)pairs >> 16; };
  return low(a) * low(b) + high(a) * high(b);
#endif
}

// Keeps a running sum where it stands. Without it GCC computes all products first, spills them, and adds them later.
APPORTION_INLINE void pin([[maybe_unused]] Int4& sum) {
#if defined(__SSE2__)
  asm volatile("" : "+x"(sum));
#endif
}

// Codes times activations, both as int16, four columns at a time.
struct PairSum {
  using Codes = Pairs;
  static constexpr bool kWide = true;
  Int4 v[4];

  APPORTION_INLINE void clear() {
    for (Int4& sum : v) sum = all4(0);
  }
  APPORTION_INLINE void add(const Codes& codes, Word8 even, Word8 odd) {
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      v[h] += multiply_pairs(codes.even[h], even) + multiply_pairs(codes.odd[h], odd);
      pin(v[h]);
    }
  }
  APPORTION_INLINE Ints total() const { return {{v[0], v[1], v[2], v[3]}}; }
  APPORTION_INLINE Ints total(const Subs& subs) const { return total() * subs; }
};

APPORTION_INLINE Word8 two_words(const void* p) {
  int32_t both;
  std::memcpy(&both, p, sizeof both);
  return (Word8)all4(both);
}

// Unsigned codes times int8.
struct UnsignedSum : PairSum {
  using X = int8_t;

  static APPORTION_INLINE Codes prepare(const Bytes& codes) {
    Codes out;
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      out.even[h] = (Word8)codes.v[h] & 255;
      out.odd[h] = (Word8)codes.v[h] >> 8;
    }
    return out;
  }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    clear();
    add(codes, x);
  }
  APPORTION_INLINE void begin_at(const Ints& from, const Codes& codes, const X* x) {
    for (int h = 0; h < 4; ++h) v[h] = from.v[h];
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const Word8 four = two_words(x);
    PairSum::add(codes, (four << 8) >> 8, four >> 8);
  }
};

// Signed codes times 13-bit activations.
struct SignedSum : PairSum {
  using X = int16_t;

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
    clear();
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) { PairSum::add(codes, two_words(x), two_words(x + 2)); }
};

}  // namespace apportion::APPORTION_ISA
