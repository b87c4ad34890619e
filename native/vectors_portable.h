// A panel's 16 rows as floats, for any processor: plain loops, which compilers turn into whatever vectors there are.
#pragma once

#include <cstring>

#include "half.h"

namespace apportion::APPORTION_ISA {

struct Floats {
  float v[16];
};

inline constexpr int kFloatsTile = 6;  // tokens computed together

template <class F>
APPORTION_INLINE Floats each(F f) {
  Floats out;
  for (int r = 0; r < 16; ++r) out.v[r] = f(r);
  return out;
}

APPORTION_INLINE uint16_t read_word(const uint8_t* p, int index) {
  uint16_t word;
  std::memcpy(&word, p + 2 * index, 2);
  return word;
}

APPORTION_INLINE Floats load_floats(const float* p) {
  Floats out;
  std::memcpy(out.v, p, sizeof out.v);
  return out;
}
APPORTION_INLINE void store_floats(float* p, const Floats& a) { std::memcpy(p, a.v, sizeof a.v); }
APPORTION_INLINE Floats load_halves(const uint8_t* p) {
  return each([&](int r) { return float_from_half(read_word(p, r)); });
}
APPORTION_INLINE Floats load_bf16s(const uint8_t* p) {
  return each([&](int r) { return float_from_bf16(read_word(p, r)); });
}
APPORTION_INLINE Floats all_floats(float x) {
  return each([=](int) { return x; });
}
APPORTION_INLINE Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return each([&](int r) { return a.v[r] * b.v[r] + c.v[r]; });
}

}  // namespace apportion::APPORTION_ISA
