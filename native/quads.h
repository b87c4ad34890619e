// Vectors of 16 bytes in the compiler's own types, which every processor's compiler turns into the best it has: SSE2
// on any x86-64, NEON on any 64-bit Arm. Casting one to another keeps its bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "half.h"

#if defined(APPORTION_NEON)
#include <arm_neon.h>
#endif

namespace apportion::APPORTION_ISA {

using Byte16 = uint8_t __attribute__((vector_size(16)));
using Word8 = int16_t __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));
using Uint4 = uint32_t __attribute__((vector_size(16)));
using Float4 = float __attribute__((vector_size(16)));

template <class Quad>
inline Quad load_quad(const void* p) {
  Quad quad;
  std::memcpy(&quad, p, sizeof quad);
  return quad;
}
template <class Quad>
inline void store_quad(void* p, Quad quad) {
  std::memcpy(p, &quad, sizeof quad);
}
inline Int4 all4(int32_t x) { return Int4{x, x, x, x}; }
inline Float4 all4(float x) { return Float4{x, x, x, x}; }

// yes where the mask has all bits, no where it has none.
inline Float4 select4(Int4 mask, Float4 yes, Float4 no) { return (Float4)((mask & (Int4)yes) | (~mask & (Int4)no)); }

// Four words of 16 bits, not negative.
inline Int4 load_words4(const void* p) {
  using Word4 = uint16_t __attribute__((vector_size(8)));
  Word4 words;
  std::memcpy(&words, p, sizeof words);
  return __builtin_convertvector(words, Int4);
}

// Four bytes, signed or not.
inline Int4 load_bytes4(const int8_t* p) {
  using Byte4 = int8_t __attribute__((vector_size(4)));
  Byte4 bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, Int4);
}
inline Int4 load_bytes4(const uint8_t* p) {
  using Byte4 = uint8_t __attribute__((vector_size(4)));
  Byte4 bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, Int4);
}
inline Float4 floats4(Int4 a) { return __builtin_convertvector(a, Float4); }

// a * b + c, rounded once where the processor can.
inline Float4 fma4(Float4 a, Float4 b, Float4 c) {
#if defined(APPORTION_NEON)
  return (Float4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// To the nearest whole number, ties to even.
inline Float4 rounded4(Float4 a) {
#if defined(APPORTION_NEON)
  return (Float4)vrndnq_f32((float32x4_t)a);
#else
  for (int i = 0; i < 4; ++i) a[i] = __builtin_nearbyintf(a[i]);
  return a;
#endif
}

// Four half-precision floats; as half.h has it.
inline Float4 load_halves4(const void* p) {
#if defined(APPORTION_NEON)
  return (Float4)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(p))));
#else
  const Int4 bits = load_words4(p), sign = (bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  const Float4 finite = (Float4)(magnitude << 13) * (Float4)all4(0x77800000);
  const Float4 large = (Float4)(0x7f800000 | (magnitude & 0x3ff) << 13);
  return (Float4)(sign | (Int4)select4(magnitude >= 0x7c00, large, finite));
#endif
}

// To half precision, to nearest.
inline void store_halves4(uint16_t* p, Float4 a) {
#if defined(APPORTION_NEON)
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)a)));
#else
  for (int i = 0; i < 4; ++i) p[i] = half_from_float(a[i]);
#endif
}

}  // namespace apportion::APPORTION_ISA
