// What the products are written in, with AVX-512 and its VNNI: a register holds a panel's 16 rows. Lanes are rows: a
// Bytes has four columns of each row, an Ints or a Floats one number of each row.
//
// One instruction multiplies four columns and adds them to 32-bit sums, so that nothing has to be widened in between.
// Weights of 16-bit floats are multiplied as f32: vdpbf16ps would round the activations to 8 bits, 65,536 times as
// coarsely as the other instruction sets do.
#pragma once

#include <bit>
#include <cstring>

#if defined(APPORTION_EMULATED)
#include "emulated_avx512.h"
#else
#include <immintrin.h>
#endif

#include "formats.h"

namespace apportion::APPORTION_ISA {

struct Bytes {
  __m512i v;
};
struct Ints {
  __m512i v;
};
struct Floats {
  __m512 v;
};

inline constexpr size_t kFewTokens = 8;  // for as many, unpacking codes again and again is less work than storing them
// Tokens computed together, their sums in registers: with integer codes of a panel, of two panels without and with
// integer scales (0: one after the other), and with floats.
inline constexpr int kCodesTile = 8, kPairTile = 6, kScaledPairTile = 4, kFloatsTile = 12;

APPORTION_INLINE Bytes load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
APPORTION_INLINE Bytes all_bytes(int x) { return {_mm512_set1_epi8(char(x))}; }
APPORTION_INLINE Bytes operator|(const Bytes& a, const Bytes& b) { return {_mm512_or_si512(a.v, b.v)}; }
APPORTION_INLINE Bytes operator&(const Bytes& a, const Bytes& b) { return {_mm512_and_si512(a.v, b.v)}; }
APPORTION_INLINE Bytes add_bytes(const Bytes& a, const Bytes& b) { return {_mm512_add_epi8(a.v, b.v)}; }
// Moves each lane's bits; what passes from one byte into its neighbour must be masked away.
template <int Left>
APPORTION_INLINE Bytes shifted(const Bytes& a) {
  if constexpr (Left > 0) return {_mm512_slli_epi32(a.v, Left)};
  if constexpr (Left < 0) return {_mm512_srli_epi32(a.v, -Left)};
  return a;
}
// table[code], for codes below 16.
APPORTION_INLINE Bytes look_up(const int8_t* table, const Bytes& codes) {
  const __m128i t = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), codes.v)};
}
// Bits first .. first + 3 of each lane, as 16 or 0 in its four bytes.
APPORTION_INLINE Bytes spread_bits(const Bytes& lanes, int first) {
  const __m512i masks = _mm512_set1_epi32(first % 8 ? int(0x80402010u) : 0x08040201);
  const __m128i lane_starts = _mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  const __m512i places = _mm512_add_epi8(_mm512_set1_epi8(char(first / 8)), _mm512_broadcast_i32x4(lane_starts));
  return {_mm512_maskz_set1_epi8(_mm512_test_epi8_mask(_mm512_shuffle_epi8(lanes.v, places), masks), 16)};
}

// Byte i of each lane.
APPORTION_INLINE Ints unsigned_byte(const Bytes& a, int i) {
  return {_mm512_and_si512(_mm512_srl_epi32(a.v, _mm_cvtsi32_si128(8 * i)), _mm512_set1_epi32(255))};
}
APPORTION_INLINE Ints load_words(const uint8_t* p) {  // 16 unsigned words of 16 bits
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
APPORTION_INLINE Ints load_ints(const void* p) { return {_mm512_loadu_si512(p)}; }
APPORTION_INLINE void pin(Ints&) {}  // running sums stay where they stand without it
APPORTION_INLINE Ints all_ints(int x) { return {_mm512_set1_epi32(x)}; }
// x times a power of two or the negative of one, straight from memory.
template <int Times>
APPORTION_INLINE Ints all_multiples(const int32_t& x) {
  const __m512i multiple = _mm512_slli_epi32(_mm512_set1_epi32(x), std::countr_zero(unsigned(Times)));
  return {Times < 0 ? _mm512_sub_epi32(_mm512_setzero_si512(), multiple) : multiple};
}
APPORTION_INLINE Ints operator+(const Ints& a, const Ints& b) { return {_mm512_add_epi32(a.v, b.v)}; }
APPORTION_INLINE Ints operator-(const Ints& a, const Ints& b) { return {_mm512_sub_epi32(a.v, b.v)}; }
APPORTION_INLINE Ints operator|(const Ints& a, const Ints& b) { return {_mm512_or_si512(a.v, b.v)}; }
// Bits `from` .. of each lane, masked and moved `to` the left.
APPORTION_INLINE Ints bits_of(const Ints& a, int from, int mask, int to) {
  const __m512i bits = _mm512_and_si512(_mm512_srl_epi32(a.v, _mm_cvtsi32_si128(from)), _mm512_set1_epi32(mask));
  return {_mm512_sll_epi32(bits, _mm_cvtsi32_si128(to))};
}

APPORTION_INLINE Floats load_floats(const float* p) { return {_mm512_loadu_ps(p)}; }
APPORTION_INLINE void store_floats(float* p, const Floats& a) { _mm512_storeu_ps(p, a.v); }
APPORTION_INLINE Floats load_halves(const uint8_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
APPORTION_INLINE Floats load_bf16s(const uint8_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(load_words(p).v, 16))};
}
// Half of 2^(exponent - 127) for 16 bytes; the two smallest are subnormal.
APPORTION_INLINE Floats load_half_powers(const uint8_t* p) {
  const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  const __mmask16 small = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(2), e);
  return {_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal))};
}
APPORTION_INLINE Floats all_floats(float x) { return {_mm512_set1_ps(x)}; }
APPORTION_INLINE Floats to_floats(const Ints& a) { return {_mm512_cvtepi32_ps(a.v)}; }
APPORTION_INLINE Floats operator*(const Floats& a, const Floats& b) { return {_mm512_mul_ps(a.v, b.v)}; }
APPORTION_INLINE Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

APPORTION_INLINE __m512i four_bytes(const void* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}

// The low words of both, the second's above the first's.
APPORTION_INLINE __m512i word_pairs(__m512i first, __m512i second) {
  return _mm512_mask_mov_epi16(first, 0xaaaaaaaa, _mm512_slli_epi32(second, 16));
}

// The integer scales of a group's halves, a pair of words in each lane.
struct Subs {
  __m512i v;
};
// Bytes First and First + 1 of each lane, which are signed.
template <int First>
APPORTION_INLINE Subs subs_of(const Bytes& a) {
  constexpr uint32_t kUpper = 0x00800080u | First << 8 | (First + 1) << 24, kNextLane = 0x04000400;
  const __m128i places =
      _mm_setr_epi32(int(kUpper), int(kUpper + kNextLane), int(kUpper + 2 * kNextLane), int(kUpper + 3 * kNextLane));
  return {_mm512_srai_epi16(_mm512_shuffle_epi8(a.v, _mm512_broadcast_i32x4(places)), 8)};
}
APPORTION_INLINE Ints sub_of(const Subs& a, int half) {
  return {_mm512_srai_epi32(half ? a.v : _mm512_slli_epi32(a.v, 16), 16)};
}

// Unsigned codes times int8, four columns at a time.
struct UnsignedSum {
  using Codes = Bytes;
  using X = int8_t;
  static constexpr bool kWide = true;
  __m512i v;

  static APPORTION_INLINE Codes prepare(const Bytes& codes) { return codes; }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) { begin_at({_mm512_setzero_si512()}, codes, x); }
  APPORTION_INLINE void begin_at(const Ints& from, const Codes& codes, const X* x) {
    v = from.v;
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) { v = _mm512_dpbusd_epi32(v, codes.v, four_bytes(x)); }
  APPORTION_INLINE Ints total() const { return {v}; }
  // Of both halves of a group, less `Offset` for each code. These are words, as are the activations' sums
  // (quantize.cpp), and what is taken away before they are need not be.
  template <int Offset>
  static APPORTION_INLINE Ints total(const UnsignedSum& first, const UnsignedSum& second, const int16_t* sums,
                                     const Subs& subs) {
    __m512i halves = word_pairs(first.v, second.v);
    if constexpr (Offset > 0)
      halves = _mm512_sub_epi16(halves, _mm512_slli_epi16(four_bytes(sums), std::countr_zero(unsigned(Offset))));
    return {_mm512_madd_epi16(halves, subs.v)};
  }
};

// Signed codes as int16: columns k and k + 2, and k + 1 and k + 3.
struct SignedCodes {
  __m512i even, odd;
};

// Signed codes times 13-bit activations, in two registers: beside few other sums, one would be a chain to wait for.
struct TwoSignedSums {
  __m512i v, w;

  APPORTION_INLINE void begin(const SignedCodes& codes, const int16_t* x) {
    v = w = _mm512_setzero_si512();
    add(codes, x);
  }
  APPORTION_INLINE void add(const SignedCodes& codes, const int16_t* x) {
    v = _mm512_dpwssd_epi32(v, codes.even, four_bytes(x));
    w = _mm512_dpwssd_epi32(w, codes.odd, four_bytes(x + 2));
  }
  APPORTION_INLINE Ints total() const { return {_mm512_add_epi32(v, w)}; }
};

struct SignedSum {
  using Codes = SignedCodes;
  using X = int16_t;
  using AmongFew = TwoSignedSums;
  static constexpr bool kWide = true;
  __m512i v;

  static APPORTION_INLINE Codes prepare(const Bytes& codes) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(codes.v, 8), 8), _mm512_srai_epi16(codes.v, 8)};
  }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    v = _mm512_setzero_si512();
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    v = _mm512_dpwssd_epi32(v, codes.even, four_bytes(x));
    v = _mm512_dpwssd_epi32(v, codes.odd, four_bytes(x + 2));
  }
  APPORTION_INLINE Ints total() const { return {v}; }
};

// Column i of four codes, unsigned or signed as their sums take them.
template <class Sum>
APPORTION_INLINE Floats code_floats(const Bytes& codes, int i) {
  return to_floats(unsigned_byte(codes, i));
}
template <class Sum>
APPORTION_INLINE Floats code_floats(const SignedCodes& codes, int i) {
  const __m512i pair = i % 2 ? codes.odd : codes.even;
  return to_floats({_mm512_srai_epi32(i < 2 ? _mm512_slli_epi32(pair, 16) : pair, 16)});
}

}  // namespace apportion::APPORTION_ISA
