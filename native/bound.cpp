// Logits scaled and capped.
#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

F8 bounded(F8 x, float cap) { return F8::all(cap) * tanh(x / F8::all(cap)); }

}  // namespace

void bound(float* x, size_t count, float scale, float cap) {
  for (size_t i = 0; i < count; ++i) x[i] *= scale;
  if (cap <= 0) return;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) bounded(F8::load(x + i), cap).store(x + i);
  float rest[8] = {};
  std::copy(x + i, x + count, rest);
  bounded(F8::load(rest), cap).store(rest);
  std::copy(rest, rest + (count - i), x + i);
}

}  // namespace apportion::APPORTION_ISA
