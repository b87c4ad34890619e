// Norm, gated activations and the conversion to half precision.
#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

// Lanes 0 .. count - 1 of memory, the others zero.
F8 load_some(const float* p, size_t count) {
  float lanes[8] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return F8::load(lanes);
}

void store_some(F8 v, float* p, size_t count) {
  float lanes[8];
  v.store(lanes);
  for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

template <GateKind Kind>
F8 gated(F8 g, F8 u) {
  if constexpr (Kind == GateKind::silu) return g * sigmoid(g) * u;
  if constexpr (Kind == GateKind::gelu_tanh) {
    const F8 inner = F8::all(0.7978845608f) * fma(F8::all(0.044715f) * g * g, g, g);
    return g * sigmoid(inner + inner) * u;  // (1 + tanh z) / 2, without cancellation
  }
  const F8 low = min(F8::all(7), g), bounded = max(F8::all(-7), min(F8::all(7), u));
  return low * sigmoid(F8::all(1.702f) * low) * (bounded + F8::all(1));
}

template <GateKind Kind>
void gate_all(const float* gate, const float* up, size_t count, float* out) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) gated<Kind>(F8::load(gate + i), F8::load(up + i)).store(out + i);
  if (i < count)
    store_some(gated<Kind>(load_some(gate + i, count - i), load_some(up + i, count - i)), out + i, count - i);
}

}  // namespace

void rms_norm(const float* x, const float* weight, size_t width, float eps, float* out) {
  F8 squares[2] = {F8::all(0), F8::all(0)};
  size_t i = 0;
  for (; i + 16 <= width; i += 16)
    for (size_t h = 0; h < 2; ++h) {
      const F8 v = F8::load(x + i + 8 * h);
      squares[h] = fma(v, v, squares[h]);
    }
  float total = sum(squares[0] + squares[1]);
  for (; i < width; ++i) total += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(total / float(width) + eps);
  for (i = 0; i + 8 <= width; i += 8) (F8::load(x + i) * F8::all(factor) * F8::load(weight + i)).store(out + i);
  for (; i < width; ++i) out[i] = x[i] * factor * weight[i];
}

void gate(const float* gate, const float* up, size_t count, GateKind kind, float* out) {
  switch (kind) {
    case GateKind::silu: return gate_all<GateKind::silu>(gate, up, count, out);
    case GateKind::gelu_tanh: return gate_all<GateKind::gelu_tanh>(gate, up, count, out);
    case GateKind::swiglu_oai: return gate_all<GateKind::swiglu_oai>(gate, up, count, out);
  }
}

void to_half(const float* x, size_t count, uint16_t* out) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) F8::load(x + i).store_half(out + i);
  for (; i < count; ++i) out[i] = half_from_float(x[i]);
}

}  // namespace apportion::APPORTION_ISA
