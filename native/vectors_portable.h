// What the products are written in, for any processor. On x86-64 that is one with SSSE3 and SSE4.1 (x86-64-v2, as NumPy
// asks for), where two instructions say what operators do not.
#pragma once

#include "vectors_quads.h"
#if defined(__SSSE3__)
#include <tmmintrin.h>
#endif

namespace apportion::APPORTION_ISA {

inline constexpr size_t kFewTokens = 1;  // for as many, unpacking codes again and again is less work than storing them
// Tokens computed together, their sums in registers: with integer codes of a panel, of two panels without and with
// integer scales (0: one after the other), and with floats.
inline constexpr int kCodesTile = 2, kPairTile = 0, kScaledPairTile = 0, kFloatsTile = 3;

// Bits first .. first + 3 of each lane, as 16 or 0 in its four bytes.
APPORTION_INLINE Bytes spread_bits(const Bytes& lanes, int first) {
#if defined(__SSSE3__)
  const Byte16 bits = four_bits(first), places = place_of_bits(first);
  return each<Bytes>([&](int h) {
    const Byte16 own = (Byte16)_mm_shuffle_epi8((__m128i)lanes.v[h], (__m128i)places) & bits;
    return (Byte16)(own == bits) & 16;
  });
#else
  return each<Bytes>([&](int h) {
    const Uint4 four = (Uint4)lanes.v[h] >> first & 15;
    return (Byte16)(((four | four << 7 | four << 14 | four << 21) & 0x01010101) << 4);
  });
#endif
}
// table[code], for codes below 16.
APPORTION_INLINE Bytes look_up(const int8_t* table, const Bytes& codes) {
#if defined(__SSSE3__)
  const __m128i all = load_quad<__m128i>(table);
  return each<Bytes>([&](int h) { return (Byte16)_mm_shuffle_epi8(all, (__m128i)codes.v[h]); });
#else
  uint8_t lanes[64];
  std::memcpy(lanes, codes.v, sizeof lanes);
  for (uint8_t& lane : lanes) lane = uint8_t(table[lane]);
  return load_bytes(lanes);
#endif
}

// Both products of each lane's pairs, added up.
APPORTION_INLINE Int4 multiply_pairs(Word8 a, Word8 b) {
#if defined(__SSSE3__)
  return (Int4)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const auto low = [](Word8 pairs) { return (Int4)((Uint4)pairs << 16) >> 16; };
  const auto high = [](Word8 pairs) { return (Int4)pairs >> 16; };
  return low(a) * low(b) + high(a) * high(b);
#endif
}

// Keeps a running sum where it stands. Without it GCC computes all products first, spills them, and adds them later.
template <class Sum>
APPORTION_INLINE void pin([[maybe_unused]] Sum& sum) {
#if defined(__SSSE3__)
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
};

APPORTION_INLINE Word8 two_words(const void* p) {
  int32_t both;
  std::memcpy(&both, p, sizeof both);
  return (Word8)all4(both);
}

#if defined(__SSSE3__)

// Unsigned codes times int8, four columns at a time; as many products as a class of codes adds up stay within 16 bits.
struct UnsignedSum {
  using Codes = Bytes;
  using X = int8_t;
  static constexpr bool kWide = false;
  Word8 v[4];

  static APPORTION_INLINE Codes prepare(const Bytes& codes) { return codes; }

  static APPORTION_INLINE Word8 multiply(Byte16 codes, Word8 four) {
    return (Word8)_mm_maddubs_epi16((__m128i)codes, (__m128i)four);
  }
  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    const Word8 four = two_words(x);
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) v[h] = multiply(codes.v[h], four);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const Word8 four = two_words(x);
#pragma GCC unroll 4
    for (int h = 0; h < 4; ++h) {
      v[h] += multiply(codes.v[h], four);
      pin(v[h]);
    }
  }
  APPORTION_INLINE Ints total() const {
    const Word8 ones = {1, 1, 1, 1, 1, 1, 1, 1};
    return each<Ints>([&](int h) { return multiply_pairs(v[h], ones); });
  }
  APPORTION_INLINE Ints total(const Subs& subs, int half) const { return total() * subs.halves[half]; }
};

#else

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
  using PairSum::total;
  template <int Offset>
  static APPORTION_INLINE Ints total(const UnsignedSum& first, const UnsignedSum& second, const int16_t* sums,
                                     const Subs& subs) {
    return total_of_halves<Offset>(first.total(), second.total(), sums, subs);
  }
};

#endif

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
