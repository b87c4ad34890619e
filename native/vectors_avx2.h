// What the products are written in, with AVX2. Lanes are a panel's 16 rows: a Bytes has four columns of each row, an
// Ints or a Floats one number of each row.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "formats.h"

namespace apportion::APPORTION_ISA {

struct Bytes {
  __m256i v[2];
};
struct Ints {
  __m256i v[2];
};
struct Floats {
  __m256 v[2];
};

inline constexpr size_t kFewTokens = 8;  // for as many, unpacking codes again and again is less work than storing them
// Tokens computed together, their sums in registers: with integer codes of a panel, of two panels without and with
// integer scales (0: one after the other), and with floats.
inline constexpr int kCodesTile = 4, kPairTile = 0, kScaledPairTile = 0, kFloatsTile = 6;

APPORTION_INLINE Bytes load_bytes(const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m256i*>(p);
  return {{_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)}};
}
APPORTION_INLINE Bytes all_bytes(int x) { return {{_mm256_set1_epi8(char(x)), _mm256_set1_epi8(char(x))}}; }
APPORTION_INLINE Bytes operator|(const Bytes& a, const Bytes& b) {
  return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
}
APPORTION_INLINE Bytes operator&(const Bytes& a, const Bytes& b) {
  return {{_mm256_and_si256(a.v[0], b.v[0]), _mm256_and_si256(a.v[1], b.v[1])}};
}
APPORTION_INLINE Bytes add_bytes(const Bytes& a, const Bytes& b) {
  return {{_mm256_add_epi8(a.v[0], b.v[0]), _mm256_add_epi8(a.v[1], b.v[1])}};
}
// Moves each lane's bits; what passes from one byte into its neighbour must be masked away.
template <int Left>
APPORTION_INLINE Bytes shifted(const Bytes& a) {
  if constexpr (Left > 0) return {{_mm256_slli_epi32(a.v[0], Left), _mm256_slli_epi32(a.v[1], Left)}};
  if constexpr (Left < 0) return {{_mm256_srli_epi32(a.v[0], -Left), _mm256_srli_epi32(a.v[1], -Left)}};
  return a;
}
// table[code], for codes below 16.
APPORTION_INLINE Bytes look_up(const int8_t* table, const Bytes& codes) {
  const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {{_mm256_shuffle_epi8(t, codes.v[0]), _mm256_shuffle_epi8(t, codes.v[1])}};
}
// Bits first .. first + 3 of each lane, as 16 or 0 in its four bytes.
APPORTION_INLINE Bytes spread_bits(const Bytes& lanes, int first) {
  const __m256i masks = _mm256_set1_epi32(first % 8 ? int(0x80402010u) : 0x08040201);
  const __m256i places =
      _mm256_add_epi8(_mm256_set1_epi8(char(first / 8)),
                      _mm256_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  Bytes out;
  for (int h = 0; h < 2; ++h) {
    const __m256i picked = _mm256_and_si256(_mm256_shuffle_epi8(lanes.v[h], places), masks);
    out.v[h] = _mm256_and_si256(_mm256_cmpeq_epi8(picked, masks), _mm256_set1_epi8(16));
  }
  return out;
}

// Byte i of each lane.
APPORTION_INLINE Ints unsigned_byte(const Bytes& a, int i) {
  const __m128i count = _mm_cvtsi32_si128(8 * i);
  const __m256i mask = _mm256_set1_epi32(255);
  return {{_mm256_and_si256(_mm256_srl_epi32(a.v[0], count), mask),
           _mm256_and_si256(_mm256_srl_epi32(a.v[1], count), mask)}};
}
APPORTION_INLINE Ints load_words(const uint8_t* p) {  // 16 unsigned words of 16 bits
  const auto* v = reinterpret_cast<const __m128i*>(p);
  return {{_mm256_cvtepu16_epi32(_mm_loadu_si128(v)), _mm256_cvtepu16_epi32(_mm_loadu_si128(v + 1))}};
}
APPORTION_INLINE Ints load_ints(const void* p) {
  const auto* v = static_cast<const __m256i*>(p);
  return {{_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)}};
}
APPORTION_INLINE Ints all_ints(int x) { return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}; }
template <int Times>
APPORTION_INLINE Ints all_multiples(const int32_t& x) {
  return all_ints(x * Times);
}
APPORTION_INLINE Ints operator+(const Ints& a, const Ints& b) {
  return {{_mm256_add_epi32(a.v[0], b.v[0]), _mm256_add_epi32(a.v[1], b.v[1])}};
}
APPORTION_INLINE Ints operator-(const Ints& a, const Ints& b) {
  return {{_mm256_sub_epi32(a.v[0], b.v[0]), _mm256_sub_epi32(a.v[1], b.v[1])}};
}
APPORTION_INLINE Ints operator|(const Ints& a, const Ints& b) {
  return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
}
// Bits `from` .. of each lane, masked and moved `to` the left.
APPORTION_INLINE Ints bits_of(const Ints& a, int from, int mask, int to) {
  const __m128i down = _mm_cvtsi32_si128(from), up = _mm_cvtsi32_si128(to);
  const __m256i m = _mm256_set1_epi32(mask);
  return {{_mm256_sll_epi32(_mm256_and_si256(_mm256_srl_epi32(a.v[0], down), m), up),
           _mm256_sll_epi32(_mm256_and_si256(_mm256_srl_epi32(a.v[1], down), m), up)}};
}

APPORTION_INLINE Floats load_floats(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
APPORTION_INLINE void store_floats(float* p, const Floats& a) {
  _mm256_storeu_ps(p, a.v[0]);
  _mm256_storeu_ps(p + 8, a.v[1]);
}
APPORTION_INLINE Floats load_halves(const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  return {{_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))}};
}
APPORTION_INLINE Floats load_bf16s(const uint8_t* p) {
  const Ints words = load_words(p);
  return {
      {_mm256_castsi256_ps(_mm256_slli_epi32(words.v[0], 16)), _mm256_castsi256_ps(_mm256_slli_epi32(words.v[1], 16))}};
}
// Half of 2^(exponent - 127) for 16 bytes; the two smallest are subnormal.
APPORTION_INLINE Floats load_half_powers(const uint8_t* p) {
  const __m128i exponents = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  Floats out;
  for (int h = 0; h < 2; ++h) {
    const __m256i e = _mm256_cvtepu8_epi32(h ? _mm_srli_si128(exponents, 8) : exponents);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    out.v[h] = _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, small));
  }
  return out;
}
APPORTION_INLINE Floats all_floats(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
APPORTION_INLINE Floats to_floats(const Ints& a) { return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}}; }
APPORTION_INLINE Floats operator*(const Floats& a, const Floats& b) {
  return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}
APPORTION_INLINE Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}

APPORTION_INLINE __m256i four_bytes(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

// Keeps a running sum where it stands. Without it GCC computes all products first, spills them, and adds them later.
APPORTION_INLINE void pin(__m256i& sum) { asm volatile("" : "+x"(sum)); }
APPORTION_INLINE void pin(Ints& sum) {
  pin(sum.v[0]);
  pin(sum.v[1]);
}

// The integer scales of a group's halves as the widening multiplication wants them: twice in each lane.
struct Subs {
  Ints halves[2];
};
// Byte I of each lane, which is signed, twice as a word.
template <int I>
APPORTION_INLINE Ints byte_as_words(const Bytes& a) {
  constexpr uint32_t kUpper = 0x00800080u | I << 8 | I << 24, kNextLane = 0x04000400;
  const __m256i places = _mm256_broadcastsi128_si256(
      _mm_setr_epi32(int(kUpper), int(kUpper + kNextLane), int(kUpper + 2 * kNextLane), int(kUpper + 3 * kNextLane)));
  return {{_mm256_srai_epi16(_mm256_shuffle_epi8(a.v[0], places), 8),
           _mm256_srai_epi16(_mm256_shuffle_epi8(a.v[1], places), 8)}};
}
// Bytes First and First + 1 of each lane, which are signed.
template <int First>
APPORTION_INLINE Subs subs_of(const Bytes& a) {
  return {{byte_as_words<First>(a), byte_as_words<First + 1>(a)}};
}
APPORTION_INLINE Ints sub_of(const Subs& a, int half) {
  return {{_mm256_srai_epi32(a.halves[half].v[0], 16), _mm256_srai_epi32(a.halves[half].v[1], 16)}};
}

// Unsigned codes times int8, four columns at a time; as many products as `Adds` of them stay within 16 bits.
struct UnsignedSum {
  using Codes = Bytes;
  using X = int8_t;
  static constexpr bool kWide = false;
  __m256i v[2];

  static APPORTION_INLINE Codes prepare(const Bytes& codes) { return codes; }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    const __m256i four = four_bytes(x);
    for (int h = 0; h < 2; ++h) v[h] = _mm256_maddubs_epi16(codes.v[h], four);
    pin(v[0]);
    pin(v[1]);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const __m256i four = four_bytes(x);
    for (int h = 0; h < 2; ++h) v[h] = _mm256_add_epi16(v[h], _mm256_maddubs_epi16(codes.v[h], four));
    pin(v[0]);
    pin(v[1]);
  }
  APPORTION_INLINE Ints total() const {
    const __m256i ones = _mm256_set1_epi16(1);
    return {{_mm256_madd_epi16(v[0], ones), _mm256_madd_epi16(v[1], ones)}};
  }
  APPORTION_INLINE Ints total(const Subs& subs, int half) const {
    return {{_mm256_madd_epi16(v[0], subs.halves[half].v[0]), _mm256_madd_epi16(v[1], subs.halves[half].v[1])}};
  }
};

// Signed codes times 13-bit activations, both as int16: columns k and k + 2 first, then k + 1 and k + 3.
struct SignedSum {
  struct Codes {
    __m256i even[2], odd[2];
  };
  using X = int16_t;
  static constexpr bool kWide = true;
  __m256i v[2];

  static APPORTION_INLINE Codes prepare(const Bytes& codes) {
    Codes out;
    for (int h = 0; h < 2; ++h) {
      out.even[h] = _mm256_srai_epi16(_mm256_slli_epi16(codes.v[h], 8), 8);
      out.odd[h] = _mm256_srai_epi16(codes.v[h], 8);
    }
    return out;
  }

  APPORTION_INLINE void begin(const Codes& codes, const X* x) {
    v[0] = v[1] = _mm256_setzero_si256();
    add(codes, x);
  }
  APPORTION_INLINE void add(const Codes& codes, const X* x) {
    const __m256i even = four_bytes(reinterpret_cast<const int8_t*>(x));
    for (int h = 0; h < 2; ++h) v[h] = _mm256_add_epi32(v[h], _mm256_madd_epi16(codes.even[h], even));
    pin(v[0]);
    pin(v[1]);
    const __m256i odd = four_bytes(reinterpret_cast<const int8_t*>(x + 2));
    for (int h = 0; h < 2; ++h) v[h] = _mm256_add_epi32(v[h], _mm256_madd_epi16(codes.odd[h], odd));
    pin(v[0]);
    pin(v[1]);
  }
  APPORTION_INLINE Ints total() const { return {{v[0], v[1]}}; }
};

// Column i of four codes, unsigned or signed as their sums take them.
template <class Sum>
APPORTION_INLINE Floats code_floats(const Bytes& codes, int i) {
  return to_floats(unsigned_byte(codes, i));
}
template <class Sum>
APPORTION_INLINE Floats code_floats(const SignedSum::Codes& codes, int i) {
  Ints out;
  for (int h = 0; h < 2; ++h) {
    const __m256i pair = i % 2 ? codes.odd[h] : codes.even[h];
    out.v[h] = _mm256_srai_epi32(i < 2 ? _mm256_slli_epi32(pair, 16) : pair, 16);
  }
  return to_floats(out);
}

}  // namespace apportion::APPORTION_ISA
