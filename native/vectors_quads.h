// A panel's 16 rows as four vectors of 16 bytes: a Bytes has four columns of each row, an Ints or a Floats one number
// of each row. What has no operator stands in vectors_portable.h and vectors_neon.h.
#pragma once

#include "formats.h"
#include "quads.h"

namespace apportion::APPORTION_ISA {

struct Bytes {
  Byte16 v[4];
};
struct Ints {
  Int4 v[4];
};
struct Floats {
  Float4 v[4];
};

// The vectors f(0) .. f(3).
template <class Vectors, class F>
APPORTION_INLINE Vectors each(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}

APPORTION_INLINE Bytes load_bytes(const uint8_t* p) {
  return each<Bytes>([=](int h) { return load_quad<Byte16>(p + 16 * h); });
}
APPORTION_INLINE Bytes all_bytes(int x) {
  return each<Bytes>([=](int) { return (Byte16)all4(int32_t(uint8_t(x) * 0x01010101u)); });
}
APPORTION_INLINE Bytes operator|(const Bytes& a, const Bytes& b) {
  return each<Bytes>([&](int h) { return a.v[h] | b.v[h]; });
}
APPORTION_INLINE Bytes operator&(const Bytes& a, const Bytes& b) {
  return each<Bytes>([&](int h) { return a.v[h] & b.v[h]; });
}
APPORTION_INLINE Bytes add_bytes(const Bytes& a, const Bytes& b) {
  return each<Bytes>([&](int h) { return a.v[h] + b.v[h]; });
}
// Moves each lane's bits; what passes from one byte into its neighbour must be masked away.
template <int Left>
APPORTION_INLINE Bytes shifted(const Bytes& a) {
  if constexpr (Left > 0) return each<Bytes>([&](int h) { return (Byte16)((Uint4)a.v[h] << Left); });
  if constexpr (Left < 0) return each<Bytes>([&](int h) { return (Byte16)((Uint4)a.v[h] >> -Left); });
  return a;
}
// To spread bits over bytes: four from `first` on, and the byte that has them for each of a lane's four.
APPORTION_INLINE Byte16 four_bits(int first) { return (Byte16)all4(first % 8 ? int32_t(0x80402010u) : 0x08040201); }
APPORTION_INLINE Byte16 place_of_bits(int first) {
  return (Byte16)(Int4{0, 0x04040404, 0x08080808, 0x0c0c0c0c} + first / 8 * 0x01010101);
}

// Byte i of each lane.
APPORTION_INLINE Ints unsigned_byte(const Bytes& a, int i) {
  return each<Ints>([&](int h) { return (Int4)((Uint4)a.v[h] >> 8 * i & 255); });
}
APPORTION_INLINE Ints signed_byte(const Bytes& a, int i) {
  return each<Ints>([&](int h) { return (Int4)((Uint4)a.v[h] << (24 - 8 * i)) >> 24; });
}
APPORTION_INLINE Ints load_words(const uint8_t* p) {  // 16 unsigned words of 16 bits
  return each<Ints>([=](int h) { return load_words4(p + 8 * h); });
}
APPORTION_INLINE Ints load_ints(const void* p) {
  return each<Ints>([=](int h) { return load_quad<Int4>(static_cast<const uint8_t*>(p) + 16 * h); });
}
APPORTION_INLINE void pin(Ints&) {}  // running sums stay where they stand without it
APPORTION_INLINE Ints all_ints(int x) {
  return each<Ints>([=](int) { return all4(x); });
}
template <int Times>
APPORTION_INLINE Ints all_multiples(const int32_t& x) {
  return all_ints(x * Times);
}
APPORTION_INLINE Ints operator+(const Ints& a, const Ints& b) {
  return each<Ints>([&](int h) { return a.v[h] + b.v[h]; });
}
APPORTION_INLINE Ints operator-(const Ints& a, const Ints& b) {
  return each<Ints>([&](int h) { return a.v[h] - b.v[h]; });
}
APPORTION_INLINE Ints operator|(const Ints& a, const Ints& b) {
  return each<Ints>([&](int h) { return a.v[h] | b.v[h]; });
}
// Bits `from` .. of each lane, masked and moved `to` the left.
APPORTION_INLINE Ints bits_of(const Ints& a, int from, int mask, int to) {
  return each<Ints>([&](int h) { return (Int4)(((Uint4)a.v[h] >> from & uint32_t(mask)) << to); });
}

APPORTION_INLINE Floats load_floats(const float* p) {
  return each<Floats>([=](int h) { return load_quad<Float4>(p + 4 * h); });
}
APPORTION_INLINE void store_floats(float* p, const Floats& a) { std::memcpy(p, a.v, sizeof a.v); }
APPORTION_INLINE Floats load_halves(const uint8_t* p) {
  return each<Floats>([=](int h) { return load_halves4(p + 8 * h); });
}
APPORTION_INLINE Floats load_bf16s(const uint8_t* p) {
  return each<Floats>([=](int h) { return (Float4)(load_words4(p + 8 * h) << 16); });
}
// Half of 2^(exponent - 127) for 16 bytes; the two smallest are subnormal.
APPORTION_INLINE Floats load_half_powers(const uint8_t* p) {
  return each<Floats>([=](int h) {
    const Int4 e = {p[4 * h], p[4 * h + 1], p[4 * h + 2], p[4 * h + 3]};
    const Int4 subnormal = 0x00200000 + ((e == 1) & 0x00200000);
    return select4(e < 2, (Float4)subnormal, (Float4)((e - 1) << 23));
  });
}
APPORTION_INLINE Floats all_floats(float x) {
  return each<Floats>([=](int) { return all4(x); });
}
APPORTION_INLINE Floats to_floats(const Ints& a) {
  return each<Floats>([&](int h) { return __builtin_convertvector(a.v[h], Float4); });
}
APPORTION_INLINE Floats operator*(const Floats& a, const Floats& b) {
  return each<Floats>([&](int h) { return a.v[h] * b.v[h]; });
}
APPORTION_INLINE Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return each<Floats>([&](int h) { return fma4(a.v[h], b.v[h], c.v[h]); });
}

// Codes as int16: columns k and k + 2 in each lane, and k + 1 and k + 3.
struct Pairs {
  Word8 even[4], odd[4];
};

// The integer scales of a group's halves.
struct Subs {
  Ints halves[2];
};
// Bytes First and First + 1 of each lane, which are signed.
template <int First>
APPORTION_INLINE Subs subs_of(const Bytes& a) {
  return {{signed_byte(a, First), signed_byte(a, First + 1)}};
}
APPORTION_INLINE Ints sub_of(const Subs& a, int half) { return a.halves[half]; }
APPORTION_INLINE Ints operator*(const Ints& a, const Ints& b) {
  return each<Ints>([&](int h) { return a.v[h] * b.v[h]; });
}
// Sums of both halves, less `Offset` for each code.
template <int Offset>
APPORTION_INLINE Ints total_of_halves(const Ints& first, const Ints& second, const int16_t* sums, const Subs& subs) {
  return (first - all_ints(Offset * sums[0])) * subs.halves[0] + (second - all_ints(Offset * sums[1])) * subs.halves[1];
}

// Column i of four codes, unsigned or signed as their sums take them.
template <class Sum>
APPORTION_INLINE Floats code_floats(const Bytes& codes, int i) {
  return to_floats(unsigned_byte(codes, i));
}
template <class Sum>
APPORTION_INLINE Floats code_floats(const Pairs& codes, int i) {
  return to_floats(each<Ints>([&](int h) {
    const Int4 pair = (Int4)(i % 2 ? codes.odd[h] : codes.even[h]);
    return (i < 2 ? (Int4)((Uint4)pair << 16) : pair) >> 16;
  }));
}

}  // namespace apportion::APPORTION_ISA
