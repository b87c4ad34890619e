// Conversions between the 16-bit float types and float, without help from the instruction set.
#pragma once

#include <bit>
#include <cstdint>

namespace apportion {

static inline float float_from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

static inline float float_from_bf16(uint16_t bits) { return float_from_bits(uint32_t(bits) << 16); }

static inline float float_from_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return float_from_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // The multiplication also normalizes subnormal halves: 2^112 is the difference of the biases.
  const float value = float_from_bits(magnitude << 13) * float_from_bits(0x77800000);
  return float_from_bits(sign | std::bit_cast<uint32_t>(value));
}

// Round to nearest, ties to even; too large becomes infinity.
static inline uint16_t half_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Adding 0.5 leaves the subnormal half in the lowest bits, rounded by the addition itself.
    const float shifted = float_from_bits(magnitude) + 0.5f;
    return sign | uint16_t(std::bit_cast<uint32_t>(shifted) - 0x3f000000);
  }
  const uint32_t odd = magnitude >> 13 & 1;
  return sign | uint16_t((magnitude - 0x38000000 + 0xfff + odd) >> 13);
}

}  // namespace apportion
