// What choosing a token does with every logit of a vocabulary.
#include <algorithm>
#include <limits>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Numbers i .. i + 7 of count; places past the end hold minus infinity.
F8 load_or_least(const float* x, size_t count, size_t i) {
  if (i + 8 <= count) return F8::load(x + i);
  float lanes[8];
  std::fill(lanes, lanes + 8, kMinusInfinity);
  std::copy(x + i, x + count, lanes);
  return F8::load(lanes);
}

}  // namespace

size_t find_largest(const float* x, size_t count) {
  F8 best[4] = {F8::all(kMinusInfinity), F8::all(kMinusInfinity), F8::all(kMinusInfinity), F8::all(kMinusInfinity)};
  unsigned ordered = 0xff;  // until a NaN is seen
  for (size_t i = 0; i < count; i += 32)
    for (size_t c = 0; c < 4 && i + 8 * c < count; ++c) {
      const F8 v = load_or_least(x, count, i + 8 * c);
      best[c] = max(best[c], v);
      ordered &= at_least(v, F8::all(kMinusInfinity));
    }
  if (ordered != 0xff) return size_t(std::find_if(x, x + count, [](float one) { return one != one; }) - x);
  return size_t(std::find(x, x + count, largest(max(max(best[0], best[1]), max(best[2], best[3])))) - x);
}

size_t collect(const float* x, size_t count, float least, size_t first, int32_t* places) {
  size_t found = 0;
  for (size_t i = 0; i < count; i += 8) {
    unsigned mask = at_least(load_or_least(x, count, i), F8::all(least));
    if (count - i < 8) mask &= (1u << (count - i)) - 1;
    for (; mask; mask &= mask - 1) places[found++] = int32_t(first + i + size_t(std::countr_zero(mask)));
  }
  return found;
}

float exponentials(const float* x, size_t count, float top, float factor, float* out) {
  F8 sums[2] = {F8::all(0), F8::all(0)};
  for (size_t i = 0; i < count; i += 8) {
    const F8 e = exp((load_or_least(x, count, i) - F8::all(top)) * F8::all(factor));
    sums[i / 8 % 2] = sums[i / 8 % 2] + e;
    if (i + 8 <= count)
      e.store(out + i);
    else
      store_some(e, out + i, count - i);
  }
  return sum(sums[0] + sums[1]);
}

}  // namespace apportion::APPORTION_ISA
