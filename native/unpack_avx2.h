// Rows -> panels with AVX2: eight rows' bytes are transposed so that each vector holds the same four columns of all
// eight, and codes are then split out of the bits of all rows at once.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "codes.h"
#include "kernels.h"

namespace apportion::APPORTION_ISA {

namespace {

using Rows = const uint8_t* const*;

__m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
__m256i bytes(int value) { return _mm256_set1_epi8(char(value)); }
__m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, bytes(15)); }
__m256i high_nibbles(__m256i v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), bytes(15)); }
// Bits `shift` and up of each byte, masked, moved to bit `to`.
template <int Shift, int Mask, int To>
__m256i bits(__m256i v) {
  if constexpr (Shift > To) v = _mm256_srli_epi16(v, Shift - To);
  if constexpr (Shift < To) v = _mm256_slli_epi16(v, To - Shift);
  return _mm256_and_si256(v, bytes(Mask << To));
}

uint16_t read16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}

int32_t read32(const uint8_t* p) {
  int32_t value;
  std::memcpy(&value, p, 4);
  return value;
}

// Bytes offset .. offset + 15 of 8 rows -> 4 vectors of each row's bytes 4j .. 4j + 3.
void transpose16(Rows rows, size_t offset, __m256i* out) {
  __m256i pair[4];
  for (int i = 0; i < 4; ++i)
    pair[i] =
        _mm256_inserti128_si256(_mm256_castsi128_si256(load16(rows[i] + offset)), load16(rows[i + 4] + offset), 1);
  const __m256i a = _mm256_unpacklo_epi32(pair[0], pair[1]), b = _mm256_unpackhi_epi32(pair[0], pair[1]);
  const __m256i c = _mm256_unpacklo_epi32(pair[2], pair[3]), d = _mm256_unpackhi_epi32(pair[2], pair[3]);
  out[0] = _mm256_unpacklo_epi64(a, c);
  out[1] = _mm256_unpackhi_epi64(a, c);
  out[2] = _mm256_unpacklo_epi64(b, d);
  out[3] = _mm256_unpackhi_epi64(b, d);
}

void transpose32(Rows rows, size_t offset, __m256i* out) {
  transpose16(rows, offset, out);
  transpose16(rows, offset + 16, out + 4);
}

__m256i gather32(Rows r, size_t o) {
  return _mm256_set_epi32(read32(r[7] + o), read32(r[6] + o), read32(r[5] + o), read32(r[4] + o), read32(r[3] + o),
                          read32(r[2] + o), read32(r[1] + o), read32(r[0] + o));
}

__m256 gather_halves(Rows r, size_t o) {
  return _mm256_cvtph_ps(_mm_set_epi16(short(read16(r[7] + o)), short(read16(r[6] + o)), short(read16(r[5] + o)),
                                       short(read16(r[4] + o)), short(read16(r[3] + o)), short(read16(r[2] + o)),
                                       short(read16(r[1] + o)), short(read16(r[0] + o))));
}

__m256 floats_of_low_halves(__m256i v) {
  const __m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
  return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}

// Two halves that lie together in each row.
void gather_half_pairs(Rows rows, size_t offset, __m256& first, __m256& second) {
  const __m256i both = gather32(rows, offset);
  first = floats_of_low_halves(both);
  second = floats_of_low_halves(_mm256_srli_epi32(both, 16));
}

void put_bytes(Panel& panel, size_t group, size_t half, int j, __m256i v) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(panel.codes + (group * 2 + half) * 256) + j, v);
}

void put_pairs(Panel& panel, size_t group, size_t half, int j, __m256i v) {
  __m256i* place = reinterpret_cast<__m256i*>(panel.codes + (group * 2 + half) * 512) + 2 * j;
  _mm256_store_si256(place, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
  _mm256_store_si256(place + 1, _mm256_srai_epi16(v, 8));
}

void put_scales(Panel& panel, size_t group, size_t half, __m256 scales) {
  _mm256_store_ps(panel.scales[group] + half * kHalfRows, scales);
}

void put_mins(Panel& panel, size_t group, size_t half, int run, __m256 mins) {
  _mm256_store_ps(panel.mins[group][run] + half * kHalfRows, mins);
}

// Integer scales of one run of 16: one int32 per row.
void put_subs(Panel& panel, size_t group, size_t half, int run, __m256i subs) {
  const __m256i twice = _mm256_or_si256(_mm256_and_si256(subs, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(subs, 16));
  _mm256_store_si256(reinterpret_cast<__m256i*>(panel.subs[group][run][half * kHalfRows]), twice);
}

__m256 times(__m256 a, float b) { return _mm256_mul_ps(a, _mm256_set1_ps(b)); }

// Byte b of each row's word.
__m256i unsigned_byte(__m256i v, int b) {
  return _mm256_and_si256(_mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * b)), _mm256_set1_epi32(255));
}
__m256i signed_byte(__m256i v, int b) {
  return _mm256_srai_epi32(_mm256_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * b)), 24);
}

// 16 bytes of nibbles: the low ones are numbers 0..15, the high ones 16..31.
template <class Put>
void for_nibbles(Rows rows, size_t offset, Put put) {
  __m256i v[4];
  transpose16(rows, offset, v);
  for (int j = 0; j < 4; ++j) {
    put(j, low_nibbles(v[j]));
    put(j + 4, high_nibbles(v[j]));
  }
}

// Each row's bit 4j + i, as 16 in byte i.
__m256i fifth_bits(__m256i high, int j) {
  const __m256i spread = _mm256_add_epi8(
      bytes(j / 2), _mm256_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  const __m256i masks = _mm256_set1_epi32(j % 2 ? int(0x80402010u) : 0x08040201);
  const __m256i picked = _mm256_and_si256(_mm256_shuffle_epi8(high, spread), masks);
  return _mm256_and_si256(_mm256_cmpeq_epi8(picked, masks), bytes(16));
}

}  // namespace

inline void unpack_q8_0(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockQ8_0);
    __m256i v[8];
    transpose32(rows, block + 2, v);
    for (int j = 0; j < 8; ++j) put_pairs(panel, g, half, j, v[j]);
    put_scales(panel, g, half, gather_halves(rows, block));
  }
}

inline void unpack_q4_0(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockQ4_0);
    for_nibbles(rows, block + 2, [&](int j, __m256i v) { put_bytes(panel, g, half, j, v); });
    const __m256 d = gather_halves(rows, block);
    put_scales(panel, g, half, d);
    put_mins(panel, g, half, 0, times(d, -8));
  }
}

inline void unpack_q4_1(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockQ4_1);
    for_nibbles(rows, block + 4, [&](int j, __m256i v) { put_bytes(panel, g, half, j, v); });
    __m256 d, m;
    gather_half_pairs(rows, block, d, m);
    put_scales(panel, g, half, d);
    put_mins(panel, g, half, 0, m);
  }
}

inline void unpack_q5_0(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockQ5_0);
    const __m256i high = gather32(rows, block + 2);
    for_nibbles(rows, block + 6,
                [&](int j, __m256i v) { put_bytes(panel, g, half, j, _mm256_or_si256(v, fifth_bits(high, j))); });
    const __m256 d = gather_halves(rows, block);
    put_scales(panel, g, half, d);
    put_mins(panel, g, half, 0, times(d, -16));
  }
}

inline void unpack_q5_1(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockQ5_1);
    const __m256i high = gather32(rows, block + 4);
    for_nibbles(rows, block + 8,
                [&](int j, __m256i v) { put_bytes(panel, g, half, j, _mm256_or_si256(v, fifth_bits(high, j))); });
    __m256 d, m;
    gather_half_pairs(rows, block, d, m);
    put_scales(panel, g, half, d);
    put_mins(panel, g, half, 0, m);
  }
}

inline void unpack_iq4_nl(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  const __m256i values = _mm256_broadcastsi128_si256(load16(reinterpret_cast<const uint8_t*>(kIq4Values)));
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockIq4Nl);
    for_nibbles(rows, block + 2,
                [&](int j, __m256i v) { put_pairs(panel, g, half, j, _mm256_shuffle_epi8(values, v)); });
    put_scales(panel, g, half, gather_halves(rows, block));
  }
}

inline void unpack_mxfp4(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  const __m256i signed_values = _mm256_broadcastsi128_si256(load16(reinterpret_cast<const uint8_t*>(kMxfp4Values)));
  const __m256i values = _mm256_add_epi8(signed_values, bytes(12));
  for (size_t g = begin; g < end; ++g) {
    const size_t block = (first + g) * sizeof(BlockMxfp4);
    for_nibbles(rows, block + 1,
                [&](int j, __m256i v) { put_bytes(panel, g, half, j, _mm256_shuffle_epi8(values, v)); });
    alignas(32) float d[kHalfRows];
    for (size_t r = 0; r < kHalfRows; ++r) d[r] = detail::half_power_of_two(rows[r][block]);
    put_scales(panel, g, half, _mm256_load_ps(d));
    put_mins(panel, g, half, 0, times(_mm256_load_ps(d), -12));
  }
}

// The scales and minimums of q4_k and q5_k: one byte per row and group, in words of four groups.
struct SixBitScales {
  __m256i scales[2], mins[2];

  SixBitScales(Rows rows, size_t offset) {
    const __m256i a = gather32(rows, offset), b = gather32(rows, offset + 4), c = gather32(rows, offset + 8);
    scales[0] = bits<0, 63, 0>(a);
    mins[0] = bits<0, 63, 0>(b);
    scales[1] = _mm256_or_si256(low_nibbles(c), bits<6, 3, 4>(a));
    mins[1] = _mm256_or_si256(high_nibbles(c), bits<6, 3, 4>(b));
  }

  void put(Panel& panel, size_t group, size_t half, int g, __m256 d, __m256 dmin) const {
    const __m256 scale = _mm256_cvtepi32_ps(unsigned_byte(scales[g / 4], g % 4));
    const __m256 min = _mm256_cvtepi32_ps(unsigned_byte(mins[g / 4], g % 4));
    put_scales(panel, group, half, _mm256_mul_ps(d, scale));
    put_mins(panel, group, half, 0, _mm256_mul_ps(_mm256_xor_ps(dmin, _mm256_set1_ps(-0.0f)), min));
  }
};

inline void unpack_q4_k(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockQ4K);
    __m256 d, dmin;
    gather_half_pairs(rows, block, d, dmin);
    const SixBitScales scales(rows, block + 4);
    for (int g = 0; g < 8; ++g) scales.put(panel, start + size_t(g), half, g, d, dmin);
    for (size_t two = 0; two < 4; ++two) {
      __m256i v[8];
      transpose32(rows, block + 16 + 32 * two, v);
      for (int j = 0; j < 8; ++j) {
        put_bytes(panel, start + 2 * two, half, j, low_nibbles(v[j]));
        put_bytes(panel, start + 2 * two + 1, half, j, high_nibbles(v[j]));
      }
    }
  }
}

template <int Two>
void put_q5_k(Panel& panel, size_t group, size_t half, const __m256i* v, const __m256i* high) {
  for (int j = 0; j < 8; ++j) {
    put_bytes(panel, group, half, j, _mm256_or_si256(low_nibbles(v[j]), bits<2 * Two, 1, 4>(high[j])));
    put_bytes(panel, group + 1, half, j, _mm256_or_si256(high_nibbles(v[j]), bits<2 * Two + 1, 1, 4>(high[j])));
  }
}

inline void unpack_q5_k(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockQ5K);
    __m256 d, dmin;
    gather_half_pairs(rows, block, d, dmin);
    const SixBitScales scales(rows, block + 4);
    for (int g = 0; g < 8; ++g) scales.put(panel, start + size_t(g), half, g, d, dmin);
    __m256i high[8], v[8];
    transpose32(rows, block + 16, high);
    transpose32(rows, block + 48, v);
    put_q5_k<0>(panel, start, half, v, high);
    transpose32(rows, block + 80, v);
    put_q5_k<1>(panel, start + 2, half, v, high);
    transpose32(rows, block + 112, v);
    put_q5_k<2>(panel, start + 4, half, v, high);
    transpose32(rows, block + 144, v);
    put_q5_k<3>(panel, start + 6, half, v, high);
  }
}

inline void unpack_q6_k(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockQ6K);
    const __m256 d = gather_halves(rows, block + 208);
    __m256i runs[4];
    transpose16(rows, block + 192, runs);
    for (int r = 0; r < 16; ++r) {
      const __m256i sub = signed_byte(runs[r / 4], r % 4);
      put_subs(panel, start + size_t(r) / 2, half, r % 2, sub);
      put_mins(panel, start + size_t(r) / 2, half, r % 2, times(_mm256_mul_ps(d, _mm256_cvtepi32_ps(sub)), -32));
    }
    for (size_t part = 0; part < 2; ++part) {
      __m256i low[8], more[8], high[8];
      transpose32(rows, block + 64 * part, low);
      transpose32(rows, block + 64 * part + 32, more);
      transpose32(rows, block + 128 + 32 * part, high);
      const size_t g = start + 4 * part;
      for (int j = 0; j < 8; ++j) {
        put_bytes(panel, g, half, j, _mm256_or_si256(low_nibbles(low[j]), bits<0, 3, 4>(high[j])));
        put_bytes(panel, g + 1, half, j, _mm256_or_si256(low_nibbles(more[j]), bits<2, 3, 4>(high[j])));
        put_bytes(panel, g + 2, half, j, _mm256_or_si256(high_nibbles(low[j]), bits<4, 3, 4>(high[j])));
        put_bytes(panel, g + 3, half, j, _mm256_or_si256(high_nibbles(more[j]), bits<6, 3, 4>(high[j])));
      }
      for (size_t i = 0; i < 4; ++i) put_scales(panel, g + i, half, d);
    }
  }
}

inline void unpack_q2_k(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockQ2K);
    __m256 d, dmin;
    gather_half_pairs(rows, block + 80, d, dmin);
    const __m256 less = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0f));
    __m256i runs[4];
    transpose16(rows, block, runs);
    for (int r = 0; r < 16; ++r) {
      const size_t group = start + size_t(r) / 2;
      put_subs(panel, group, half, r % 2, unsigned_byte(low_nibbles(runs[r / 4]), r % 4));
      const __m256i min = unsigned_byte(high_nibbles(runs[r / 4]), r % 4);
      put_mins(panel, group, half, r % 2, _mm256_mul_ps(less, _mm256_cvtepi32_ps(min)));
    }
    for (size_t part = 0; part < 2; ++part) {
      __m256i v[8];
      transpose32(rows, block + 16 + 32 * part, v);
      const size_t g = start + 4 * part;
      for (int j = 0; j < 8; ++j) {
        put_bytes(panel, g, half, j, bits<0, 3, 0>(v[j]));
        put_bytes(panel, g + 1, half, j, bits<2, 3, 0>(v[j]));
        put_bytes(panel, g + 2, half, j, bits<4, 3, 0>(v[j]));
        put_bytes(panel, g + 3, half, j, bits<6, 3, 0>(v[j]));
      }
      for (size_t i = 0; i < 4; ++i) put_scales(panel, g + i, half, d);
    }
  }
}

// Groups 4 Part .. 4 Part + 3 of a block; the codes' third bits lie in plane `group` of `high`.
template <int Part>
void put_q3_k(Panel& panel, size_t start, size_t half, const __m256i* v, const __m256i* high) {
  const size_t g = start + 4 * Part;
  for (int j = 0; j < 8; ++j) {
    put_bytes(panel, g, half, j, _mm256_or_si256(bits<0, 3, 0>(v[j]), bits<4 * Part, 1, 2>(high[j])));
    put_bytes(panel, g + 1, half, j, _mm256_or_si256(bits<2, 3, 0>(v[j]), bits<4 * Part + 1, 1, 2>(high[j])));
    put_bytes(panel, g + 2, half, j, _mm256_or_si256(bits<4, 3, 0>(v[j]), bits<4 * Part + 2, 1, 2>(high[j])));
    put_bytes(panel, g + 3, half, j, _mm256_or_si256(bits<6, 3, 0>(v[j]), bits<4 * Part + 3, 1, 2>(high[j])));
  }
}

inline void unpack_q3_k(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockQ3K);
    const __m256 d = gather_halves(rows, block + 108);
    const __m256i a = gather32(rows, block + 96), b = gather32(rows, block + 100), c = gather32(rows, block + 104);
    const __m256i runs[4] = {
        _mm256_or_si256(low_nibbles(a), bits<0, 3, 4>(c)), _mm256_or_si256(low_nibbles(b), bits<2, 3, 4>(c)),
        _mm256_or_si256(high_nibbles(a), bits<4, 3, 4>(c)), _mm256_or_si256(high_nibbles(b), bits<6, 3, 4>(c))};
    for (int r = 0; r < 16; ++r) {
      const __m256i sub = _mm256_sub_epi32(unsigned_byte(runs[r / 4], r % 4), _mm256_set1_epi32(32));
      const size_t group = start + size_t(r) / 2;
      put_subs(panel, group, half, r % 2, sub);
      put_mins(panel, group, half, r % 2, times(_mm256_mul_ps(d, _mm256_cvtepi32_ps(sub)), -4));
      put_scales(panel, group, half, d);
    }
    __m256i high[8], v[8];
    transpose32(rows, block, high);
    transpose32(rows, block + 32, v);
    put_q3_k<0>(panel, start, half, v, high);
    transpose32(rows, block + 64, v);
    put_q3_k<1>(panel, start, half, v, high);
  }
}

inline void unpack_iq4_xs(Rows rows, size_t first, size_t begin, size_t end, Panel& panel, size_t half) {
  const __m256i values = _mm256_broadcastsi128_si256(load16(reinterpret_cast<const uint8_t*>(kIq4Values)));
  for (size_t start = begin; start < end; start += 8) {
    const size_t block = (first + start) / 8 * sizeof(BlockIq4Xs);
    const __m256i front = gather32(rows, block);  // d, then the scales' high bits
    const __m256 d = floats_of_low_halves(front);
    const __m256i low = gather32(rows, block + 4);
    for (int g = 0; g < 8; ++g) {
      const __m256i low4 = _mm256_and_si256(_mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * g)), _mm256_set1_epi32(15));
      const __m256i high2 =
          _mm256_and_si256(_mm256_srl_epi32(front, _mm_cvtsi32_si128(16 + 2 * g)), _mm256_set1_epi32(3));
      const __m256i six = _mm256_or_si256(low4, _mm256_slli_epi32(high2, 4));
      const __m256i scale = _mm256_sub_epi32(six, _mm256_set1_epi32(32));
      const size_t group = start + size_t(g);
      put_scales(panel, group, half, _mm256_mul_ps(d, _mm256_cvtepi32_ps(scale)));
      for_nibbles(rows, block + 8 + 16 * size_t(g),
                  [&](int j, __m256i v) { put_pairs(panel, group, half, j, _mm256_shuffle_epi8(values, v)); });
    }
  }
}

}  // namespace apportion::APPORTION_ISA
