// Seeded data for the comparison of instruction sets.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "../../native/codes.h"
#include "../../native/kernels.h"

namespace apportion {

using Floats = std::vector<float>;

inline std::mt19937& generator() {
  static std::mt19937 shared(1);
  return shared;
}

inline Floats normal(size_t count, float scale = 1) {
  std::normal_distribution<float> numbers(0, scale);
  Floats out(count);
  for (float& x : out) x = numbers(generator());
  return out;
}

inline std::vector<uint16_t> halves(size_t count, float scale = 1) {
  std::vector<uint16_t> out(count);
  const Floats numbers = normal(count, scale);
  for (size_t i = 0; i < count; ++i) out[i] = half_from_float(numbers[i]);
  return out;
}

// Where a block keeps its half-precision scales; everything else may be any bits.
inline std::vector<size_t> scale_offsets(FormatId format) {
  switch (format) {
    case FormatId::q4_1:
    case FormatId::q5_1:
    case FormatId::q4_k:
    case FormatId::q5_k: return {0, 2};
    case FormatId::q2_k: return {80, 82};
    case FormatId::q3_k: return {108};
    case FormatId::q6_k: return {208};
    case FormatId::f32:
    case FormatId::f16:
    case FormatId::bf16:
    case FormatId::mxfp4: return {};
    default: return {0};
  }
}

// 16 rows of random bits with sensible scales; of small numbers where they are stored one by one.
inline std::vector<uint8_t> random_rows(const Format& format, size_t num_cols) {
  std::vector<uint8_t> rows(kPanelRows * format.row_nbytes(num_cols));
  std::uniform_int_distribution<int> bytes(0, 255), exponents(110, 123);
  for (uint8_t& byte : rows) byte = uint8_t(bytes(generator()));
  for (size_t at = 0; at < rows.size(); at += format.block_nbytes) {
    const float number = normal(1)[0];
    const uint16_t half = half_from_float(number);
    if (format.id == FormatId::f32) std::memcpy(&rows[at], &number, 4);
    if (format.id == FormatId::f16) std::memcpy(&rows[at], &half, 2);
    if (format.id == FormatId::bf16) std::memcpy(&rows[at], reinterpret_cast<const char*>(&number) + 2, 2);
    if (format.id == FormatId::mxfp4) rows[at] = uint8_t(exponents(generator()));
    for (size_t offset : scale_offsets(format.id)) {
      const uint16_t scale = half_from_float(number * 0.01f);
      std::memcpy(&rows[at + offset], &scale, 2);
    }
  }
  return rows;
}

inline std::vector<uint8_t> interleaved(const Format& format, const std::vector<uint8_t>& rows, size_t num_cols) {
  const uint8_t* starts[kPanelRows];
  for (size_t r = 0; r < kPanelRows; ++r) starts[r] = rows.data() + r * format.row_nbytes(num_cols);
  std::vector<uint8_t> panel(rows.size());
  interleave(format, starts, 0, num_cols / format.block_size, panel.data());
  return panel;
}

// A token's activations in the form that products with a format want.
struct Prepared {
  std::vector<uint8_t> groups;
  Outlier outlier;

  Prepared(const Kernels& kernels, Activations kind, const float* x, size_t num_cols)
      : groups(num_cols / kGroup * group_nbytes(kind)) {
    outlier = kernels.quantize(x, num_cols, kind, true, groups.data());
  }
  Token token() const { return {groups.data(), outlier}; }
};

inline Activations activations_of(const Format& format) {
  switch (format.arithmetic) {
    case Arithmetic::floats: return Activations::floats;
    case Arithmetic::signed8: return Activations::pairs;
    case Arithmetic::unsigned3:
    case Arithmetic::unsigned6: return Activations::bytes16;
    default: return Activations::bytes32;
  }
}

}  // namespace apportion
