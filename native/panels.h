// How each integer format's panel is read: scales of a block's groups, and the codes of a group four columns at a time.
// Number i of a group is scale * sub[i / 16] * code[i] + min[i / 16]; formats without integer scales have one minimum
// for all 32, and signed codes have none. Where every minimum is the scale times the same number, that is the format's
// offset: number i is scale * sub[i / 16] * (code[i] - offset).
//
// The layouts (layout.h), 16 rows side by side, an element of 4 bytes being a load of 64:
//
//   q4_0     | d (32 bytes) | 4 x nibbles |                    nibbles: numbers 4j .. 4j + 3 are the low halves of load
//   q4_1     | d | m | 4 x nibbles |                           j, numbers 16 + 4j .. the high halves
//   q4_k     | d | dmin | 3 x scales | 32 x nibbles |          8 loads hold two groups: low halves, high halves
//   q5_k     | d | dmin | 3 x scales | 8 x high | 32 x nibbles |      bit g of a high byte belongs to group g
//   q6_k     | 32 x low | 16 x high | 4 x scales | d |         half a block: 16 loads of nibbles, 8 of four bit pairs
//   q2_k     | 4 x scales | 16 x codes | d | dmin |            8 loads of codes hold four groups: two bits each
//   q3_k     | 8 x high | 16 x codes | 3 x scales | d |
#pragma once

#include <array>
#include <type_traits>

#include "codes.h"
#include "kernels.h"
#include "split.h"
#include "vectors.h"

namespace apportion::APPORTION_ISA {

// The arithmetic of a class of codes: which sums it uses, how many products these hold in 16 bits before they are
// widened, and how many integer scales and minimums a group has.
template <class SumType, class GroupType, int AddsType, bool HasSubs, int MinsCount, int Offset>
struct Class {
  using Sum = SumType;
  using Group = GroupType;
  // Wide sums take the offset away as whole numbers; for others it makes minimums.
  static constexpr int kOffset = Offset, kMins = Offset && Sum::kWide ? 0 : MinsCount;
  // Integer scales, one for each half of a group; wide sums of both are scaled together.
  static constexpr bool kHasSubs = HasSubs, kInHalves = HasSubs && Sum::kWide;
  static constexpr bool kIsWhole = Offset && Sum::kWide;
  // Sums of a block of 256 columns are scaled as one.
  static constexpr bool kByBlock = kInHalves && kIsWhole;
  static constexpr int kAdds = Sum::kWide ? (kHasSubs ? 4 : 8) : AddsType;
  // Columns of one token before the next one's, in fours: sums that are soon widened then need few registers.
  static constexpr int kTurn = kAdds == 2 ? 2 : 1;
};

template <Arithmetic, int Offset>
struct ClassOf;
template <int Offset>
struct ClassOf<Arithmetic::unsigned4, Offset> : Class<UnsignedSum, ByteCodes32, 8, false, 1, Offset> {};
template <int Offset>
struct ClassOf<Arithmetic::unsigned5, Offset> : Class<UnsignedSum, ByteCodes32, 4, false, 1, Offset> {};
template <int Offset>
struct ClassOf<Arithmetic::unsigned3, Offset> : Class<UnsignedSum, ByteCodes16, 4, true, 2, Offset> {};
template <int Offset>
struct ClassOf<Arithmetic::unsigned6, Offset> : Class<UnsignedSum, ByteCodes16, 2, true, 2, Offset> {};
template <int Offset>
struct ClassOf<Arithmetic::signed8, Offset> : Class<SignedSum, PairCodes, 8, false, 0, 0> {};

template <class C>
struct GroupScales {
  template <int Which>
  struct None {};

  Floats scale;
  [[no_unique_address]] std::conditional_t<(C::kMins > 0), std::array<Floats, C::kMins>, None<0>> mins;
  [[no_unique_address]] std::conditional_t<C::kHasSubs, Subs, None<1>> subs;
};

// A class whose sums are raised by what the group's token says.
template <class C>
inline constexpr bool kIsRaised = std::is_same_v<typename C::Group, RaisedCodes>;

template <int From, int Mask, int To>
APPORTION_INLINE Bytes bits(const Bytes& a) {
  return shifted<To - From>(a) & all_bytes(Mask << To);
}
// Numbers 4j .. 4j + 3 of a group of nibbles.
template <int J>
APPORTION_INLINE Bytes nibbles(const uint8_t* p) {
  if constexpr (J < 4) return bits<0, 15, 0>(load_bytes(p + 64 * J));
  return bits<4, 15, 0>(load_bytes(p + 64 * (J - 4)));
}

// The 6-bit scales and minimums of q4_k and q5_k: three words a row, a byte of each for four groups.
template <int G>
APPORTION_INLINE void six_bits(const uint8_t* p, const Floats& d, const Floats& dmin, Floats& scale, Floats& min) {
  const Bytes a = load_bytes(p), b = load_bytes(p + 64);
  Bytes s, m;
  if constexpr (G < 4) {
    s = bits<0, 63, 0>(a);
    m = bits<0, 63, 0>(b);
  } else {
    const Bytes c = load_bytes(p + 128);
    s = bits<0, 15, 0>(c) | bits<6, 3, 4>(a);
    m = bits<4, 15, 0>(c) | bits<6, 3, 4>(b);
  }
  scale = d * to_floats(unsigned_byte(s, G % 4));
  min = dmin * all_floats(-1) * to_floats(unsigned_byte(m, G % 4));
}

// Per format: scales<G>(block) of group G of a block, and codes<G, J>(block): its numbers 4J .. 4J + 3.
template <FormatId>
struct Reader;

template <FormatId Id, Arithmetic A, size_t BlockNbytes, size_t BlockSize = 32, int Offset = 0>
struct ReaderOf {
  using C = ClassOf<A, Offset>;
  using S = GroupScales<C>;
  static constexpr size_t kBlockNbytes = kPanelRows * BlockNbytes, kGroups = BlockSize / 32;
};

// Scale times integer scale r.
template <class C>
APPORTION_INLINE Floats scale_of(const GroupScales<C>& s, int r) {
  if constexpr (C::kHasSubs) return s.scale * to_floats(sub_of(s.subs, r));
  return s.scale;
}

template <class R, int G>
APPORTION_INLINE void read_scales(const uint8_t* block, typename R::S& s) {
  using C = typename R::C;
  R::template scales<G>(block, s);
  if constexpr (C::kOffset > 0 && C::kMins > 0)
    for (size_t m = 0; m < size_t(C::kMins); ++m) s.mins[m] = scale_of<C>(s, int(m)) * all_floats(-C::kOffset);
}

template <>
struct Reader<FormatId::q8_0> : ReaderOf<FormatId::q8_0, Arithmetic::signed8, sizeof(BlockQ8_0)> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return load_bytes(b + 32 + 64 * J);
  }
};

template <>
struct Reader<FormatId::q4_0> : ReaderOf<FormatId::q4_0, Arithmetic::unsigned4, sizeof(BlockQ4_0), 32, 8> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return nibbles<J>(b + 32);
  }
};

template <>
struct Reader<FormatId::q4_1> : ReaderOf<FormatId::q4_1, Arithmetic::unsigned4, sizeof(BlockQ4_1)> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
    s.mins[0] = load_halves(b + 32);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return nibbles<J>(b + 64);
  }
};

template <>
struct Reader<FormatId::q5_0> : ReaderOf<FormatId::q5_0, Arithmetic::unsigned5, sizeof(BlockQ5_0), 32, 16> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return nibbles<J>(b + 96) | spread_bits(load_bytes(b + 32), 4 * J);
  }
};

template <>
struct Reader<FormatId::q5_1> : ReaderOf<FormatId::q5_1, Arithmetic::unsigned5, sizeof(BlockQ5_1)> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
    s.mins[0] = load_halves(b + 32);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return nibbles<J>(b + 128) | spread_bits(load_bytes(b + 64), 4 * J);
  }
};

template <>
struct Reader<FormatId::iq4_nl> : ReaderOf<FormatId::iq4_nl, Arithmetic::signed8, sizeof(BlockIq4Nl)> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return look_up(kIq4Values, nibbles<J>(b + 32));
  }
};

template <>
struct Reader<FormatId::mxfp4> : ReaderOf<FormatId::mxfp4, Arithmetic::unsigned5, sizeof(BlockMxfp4), 32, 16> {
  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_half_powers(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return add_bytes(look_up(kMxfp4Values, nibbles<J>(b + 16)), all_bytes(16));
  }
};

template <>
struct Reader<FormatId::q4_k> : ReaderOf<FormatId::q4_k, Arithmetic::unsigned4, sizeof(BlockQ4K), 256> {
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    six_bits<G>(b + 64, load_halves(b), load_halves(b + 32), s.scale, s.mins[0]);
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return bits<4 * (G % 2), 15, 0>(load_bytes(b + 256 + 512 * (G / 2) + 64 * J));
  }
};

template <>
struct Reader<FormatId::q5_k> : ReaderOf<FormatId::q5_k, Arithmetic::unsigned5, sizeof(BlockQ5K), 256> {
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    six_bits<G>(b + 64, load_halves(b), load_halves(b + 32), s.scale, s.mins[0]);
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    const Bytes low = bits<4 * (G % 2), 15, 0>(load_bytes(b + 768 + 512 * (G / 2) + 64 * J));
    return low | bits<G, 1, 4>(load_bytes(b + 256 + 64 * J));
  }
};

template <>
struct Reader<FormatId::q6_k> : ReaderOf<FormatId::q6_k, Arithmetic::unsigned6, sizeof(BlockQ6K), 256, 32> {
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b + 3328);
    const Bytes four = load_bytes(b + 3072 + 64 * (G / 2));
    s.subs = subs_of<G % 2 * 2>(four);
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    constexpr int kHalf = G / 4, kQuarter = G % 4;
    const Bytes low = bits<kQuarter / 2 * 4, 15, 0>(load_bytes(b + 64 * (16 * kHalf + 8 * (kQuarter % 2) + J)));
    return low | bits<2 * kQuarter, 3, 4>(load_bytes(b + 2048 + 64 * (8 * kHalf + J)));
  }
};

template <>
struct Reader<FormatId::q2_k> : ReaderOf<FormatId::q2_k, Arithmetic::unsigned3, sizeof(BlockQ2K), 256> {
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b + 1280);
    const Floats dmin = load_halves(b + 1312) * all_floats(-1);
    const Bytes four = load_bytes(b + 64 * (G / 2));
    const Bytes scales = bits<0, 15, 0>(four), mins = bits<4, 15, 0>(four);
    s.subs = subs_of<G % 2 * 2>(scales);
    for (int r = 0; r < 2; ++r) s.mins[size_t(r)] = dmin * to_floats(unsigned_byte(mins, G % 2 * 2 + r));
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return bits<G % 4 * 2, 3, 0>(load_bytes(b + 256 + 64 * (8 * (G / 4) + J)));
  }
};

template <>
struct Reader<FormatId::q3_k> : ReaderOf<FormatId::q3_k, Arithmetic::unsigned3, sizeof(BlockQ3K), 256, 4> {
  // Six bits for each of 16 runs: the low four in bytes 0 .. 7, the high two in bytes 8 .. 11.
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b + 1728);
    const Bytes low = load_bytes(b + 1536 + 64 * (G / 2 % 2)), high = load_bytes(b + 1664);
    const Bytes six = bits<G / 4 * 4, 15, 0>(low) | bits<G / 2 * 2, 3, 4>(high);
    s.subs = subs_of<G % 2 * 2>(add_bytes(six, all_bytes(-32)));
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    const Bytes low = bits<G % 4 * 2, 3, 0>(load_bytes(b + 512 + 64 * (8 * (G / 4) + J)));
    return low | bits<G, 1, 2>(load_bytes(b + 64 * J));
  }
};

template <>
struct Reader<FormatId::iq4_xs> : ReaderOf<FormatId::iq4_xs, Arithmetic::signed8, sizeof(BlockIq4Xs), 256> {
  template <int G>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    const Ints low = bits_of(load_ints(b + 64), 4 * G, 15, 0), high = bits_of(load_words(b + 32), 2 * G, 3, 4);
    s.scale = load_halves(b) * to_floats((low | high) - all_ints(32));
  }
  template <int G, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return look_up(kIq4Values, nibbles<J>(b + 128 + 256 * G));
  }
};

// The upper parts of q8_0 (split.h): 16 more than an eighth of the codes, rounded down.
struct UpperPart {
  using C = Class<UnsignedSum, RaisedCodes, 8, false, 0, 0>;  // 8 * 2 * 31 * 64 stays within 16 bits
  using S = GroupScales<C>;
  static constexpr size_t kBlockNbytes = kUpperNbytes, kGroups = 1;

  template <int>
  static APPORTION_INLINE void scales(const uint8_t* b, S& s) {
    s.scale = load_halves(b);
  }
  template <int, int J>
  static APPORTION_INLINE Bytes codes(const uint8_t* b) {
    return bits<J / 4 * 4, 15, 1>(load_bytes(b + 96 + 64 * (J % 4))) | bits<J, 1, 0>(load_bytes(b + 32));
  }
};

// Codes -128 .. 127 as 0 .. 255, or back.
APPORTION_INLINE Bytes turned_sign(const Bytes& codes) { return add_bytes(codes, all_bytes(128)); }

// The codes of q8_0 from both parts.
template <int J>
APPORTION_INLINE Bytes joined_codes(const uint8_t* upper, const uint8_t* lower) {
  const Bytes five =
      bits<J / 4 * 4, 15, 4>(load_bytes(upper + 96 + 64 * (J % 4))) | bits<J, 1, 3>(load_bytes(upper + 32));
  const Bytes three = bits<J / 2 * 2, 3, 1>(load_bytes(lower + 64 * (J % 2))) | bits<J, 1, 0>(load_bytes(lower + 128));
  return turned_sign(five | three);
}

}  // namespace apportion::APPORTION_ISA
