// Panels of numbers times float activations: f32, f16 and bf16 weights, and any format's codes written out as numbers.
// Columns are added up in order, for any number of tokens.
#include <algorithm>

#include "isa.h"
#include "vectors.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr size_t kMaxColumns = 256;  // unpacked at a time, half of the L1 cache

template <FormatId Id>
APPORTION_INLINE Floats load_numbers(const uint8_t* column) {
  if constexpr (Id == FormatId::f16) return load_halves(column);
  if constexpr (Id == FormatId::bf16) return load_bf16s(column);
  return load_floats(reinterpret_cast<const float*>(column));
}

template <FormatId Id>
constexpr size_t kColumnNbytes = kPanelRows * (Id == FormatId::f32 ? 4 : 2);

template <FormatId Id, int T>
void multiply_tile(const uint8_t* columns, size_t first, size_t count, const Token* tokens, float* out) {
  Floats acc[T];
  const float* x[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    x[t] = static_cast<const float*>(tokens[t].numbers) + first;
    acc[t] = load_floats(out + size_t(t) * kPanelRows);
  }
  for (size_t k = 0; k < count; ++k, columns += kColumnNbytes<Id>) {
    const Floats w = load_numbers<Id>(columns);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = multiply_add(w, all_floats(x[t][k]), acc[t]);
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) store_floats(out + size_t(t) * kPanelRows, acc[t]);
}

// Tiles of T tokens while there are so many, smaller ones for the rest.
template <FormatId Id, int T = kFloatsTile>
void multiply_tiles(const uint8_t* columns, size_t first, size_t count, const Token* tokens, size_t num_tokens,
                    float* out) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows)
    multiply_tile<Id, T>(columns, first, count, tokens, out);
  if constexpr (T > 1) multiply_tiles<Id, (T > 6 ? 6 : T - 1)>(columns, first, count, tokens, num_tokens, out);
}

template <FormatId Id, size_t Passes>
void multiply_passes(size_t num_cols, const Pass* passes) {
  Floats acc[Passes];
#pragma GCC unroll 4
  for (size_t i = 0; i < Passes; ++i) acc[i] = load_floats(passes[i].sums);
  for (size_t k = 0; k < num_cols; ++k) {
#pragma GCC unroll 4
    for (size_t i = 0; i < Passes; ++i) {
      const float x = static_cast<const float*>(passes[i].token->numbers)[k];
      acc[i] = multiply_add(load_numbers<Id>(passes[i].panel + k * kColumnNbytes<Id>), all_floats(x), acc[i]);
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < Passes; ++i) store_floats(passes[i].sums, acc[i]);
}

template <FormatId Id>
void multiply_side_by_side_of(size_t num_cols, const Pass* passes, size_t num_passes) {
  if (num_passes == kSideBySide) return multiply_passes<Id, kSideBySide>(num_cols, passes);
  for (size_t i = 0; i < num_passes; ++i) multiply_passes<Id, 1>(num_cols, passes + i);
}

// Numbers of 16 bits are converted once for many tokens.
template <FormatId Id>
void multiply_numbers(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  if (Id == FormatId::f32 || num_tokens <= kFloatsTile)
    return multiply_tiles<Id>(run.panel, run.first, run.count, tokens, num_tokens, out);
  alignas(64) float numbers[kMaxColumns * kPanelRows];
  for (size_t col = 0; col < run.count; col += kMaxColumns) {
    const size_t count = std::min(kMaxColumns, run.count - col);
    for (size_t k = 0; k < count; ++k) {
      const uint8_t* column = run.panel + (col + k) * kColumnNbytes<Id>;
      __builtin_prefetch(column + kMaxColumns * kColumnNbytes<Id>);
      store_floats(numbers + k * kPanelRows, load_numbers<Id>(column));
    }
    multiply_tiles<FormatId::f32>(reinterpret_cast<const uint8_t*>(numbers), run.first + col, count, tokens, num_tokens,
                                  out);
  }
}

}  // namespace

void multiply_floats(const Run& run, const Token* tokens, size_t num_tokens, float* sums) {
  switch (run.format->id) {
    case FormatId::f32: return multiply_numbers<FormatId::f32>(run, tokens, num_tokens, sums);
    case FormatId::f16: return multiply_numbers<FormatId::f16>(run, tokens, num_tokens, sums);
    case FormatId::bf16: return multiply_numbers<FormatId::bf16>(run, tokens, num_tokens, sums);
    default: return;
  }
}

void multiply_floats_side_by_side(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  switch (format.id) {
    case FormatId::f32: return multiply_side_by_side_of<FormatId::f32>(num_cols, passes, num_passes);
    case FormatId::f16: return multiply_side_by_side_of<FormatId::f16>(num_cols, passes, num_passes);
    case FormatId::bf16: return multiply_side_by_side_of<FormatId::bf16>(num_cols, passes, num_passes);
    default: return;
  }
}

void multiply_exactly(const Run& run, const Token* tokens, size_t num_tokens, float* sums) {
  if (run.num_panels > 1) {
    for (size_t p = 0; p < run.num_panels; ++p)
      multiply_exactly(run.only(p), tokens, num_tokens, sums + p * num_tokens * kPanelRows);
    return;
  }
  alignas(64) float numbers[kMaxColumns * kPanelRows];
  Run part = run;
  part.count = std::min(kMaxColumns, run.count);
  for (size_t col = 0; col < run.count; col += part.count, part.panel += run.nbytes(part.count)) {
    part.count = std::min(kMaxColumns, run.count - col);
    expand(part, numbers);
    multiply_tiles<FormatId::f32>(reinterpret_cast<const uint8_t*>(numbers), run.first + col, part.count, tokens,
                                  num_tokens, sums);
  }
}

}  // namespace apportion::APPORTION_ISA
