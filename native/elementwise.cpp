// Norm, gated activations, the rotation of a head and the conversion to half precision.
#include <cmath>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

// x / (1 + e^-z): x times the sigmoid of z, with one exp and one division.
F8 damped(F8 x, F8 minus_z) { return x / (F8::all(1) + exp(minus_z)); }

template <GateKind Kind>
F8 gated(F8 g, F8 u) {
  if constexpr (Kind == GateKind::silu) return damped(g, F8::all(0) - g) * u;
  if constexpr (Kind == GateKind::gelu_tanh) {
    // (1 + tanh z) / 2 is the sigmoid of 2 z, without cancellation; z = sqrt(2 / pi) (g + 0.044715 g^3).
    const F8 minus_2z = g * fma(F8::all(-0.0713548163f), g * g, F8::all(-1.5957691216f));
    return damped(g, minus_2z) * u;
  }
  const F8 low = min(F8::all(7), g), bounded = max(F8::all(-7), min(F8::all(7), u));
  return damped(low, F8::all(-1.702f) * low) * (bounded + F8::all(1));
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
  F8 squares[4] = {F8::all(0), F8::all(0), F8::all(0), F8::all(0)};
  size_t i = 0;
  for (; i + 32 <= width; i += 32)
    for (size_t h = 0; h < 4; ++h) {
      const F8 v = F8::load(x + i + 8 * h);
      squares[h] = fma(v, v, squares[h]);
    }
  for (; i < width; i += 8) {
    const F8 v = width - i >= 8 ? F8::load(x + i) : load_some(x + i, width - i);
    squares[0] = fma(v, v, squares[0]);
  }
  const float total = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  const float factor = 1.0f / std::sqrt(total / float(width) + eps);
  for (i = 0; i + 8 <= width; i += 8) (F8::load(x + i) * F8::all(factor) * F8::load(weight + i)).store(out + i);
  for (; i < width; ++i) out[i] = x[i] * factor * weight[i];
}

void rotate_head(const float* angles, size_t num_pairs, bool interleaved, float* __restrict x) {
  const float *cosines = angles, *sines = angles + num_pairs;
  if (interleaved) {
    for (size_t i = 0; i < num_pairs; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cosines[i] - b * sines[i];
      x[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
    return;
  }
  float *first = x, *second = x + num_pairs;
  size_t i = 0;
  for (; i + 8 <= num_pairs; i += 8) {
    const F8 a = F8::load(first + i), b = F8::load(second + i);
    const F8 c = F8::load(cosines + i), s = F8::load(sines + i);
    (a * c - b * s).store(first + i);
    fma(b, c, a * s).store(second + i);
  }
  for (; i < num_pairs; ++i) {
    const float a = first[i], b = second[i];
    first[i] = a * cosines[i] - b * sines[i];
    second[i] = b * cosines[i] + a * sines[i];
  }
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
