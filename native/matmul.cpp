#include "matmul.h"

#include <algorithm>

#include "split.h"

namespace apportion {

namespace {

constexpr size_t kScratchNbytes = 16 << 10;

void multiply_run(const Context& context, const Run& run, std::span<const Token> tokens, float* sums) {
  const bool exact = context.exact && run.format->arithmetic != Arithmetic::floats;
  const auto multiply = exact ? context.kernels->multiply_exactly : context.kernels->multiply;
  multiply(run, tokens.data(), tokens.size(), sums);
}

// Rows as files have them are interleaved piece by piece.
void multiply_rows(const Context& context, const Matrix& matrix, size_t panel, std::span<const Token> tokens,
                   float* sums) {
  alignas(64) uint8_t scratch[kScratchNbytes];
  const Format& format = *matrix.format;
  const size_t row_nbytes = format.row_nbytes(matrix.cols), num_blocks = matrix.cols / format.block_size;
  const uint8_t* rows[kPanelRows];
  for (size_t r = 0; r < kPanelRows; ++r)
    rows[r] = matrix.data + std::min(panel * kPanelRows + r, matrix.rows - 1) * row_nbytes;
  const size_t step = kScratchNbytes / (kPanelRows * format.block_nbytes);
  for (size_t block = 0; block < num_blocks; block += step) {
    const size_t count = std::min(step, num_blocks - block);
    interleave(format, rows, block, count, scratch);
    multiply_run(context, {&format, scratch, block * format.block_size, count * format.block_size}, tokens, sums);
  }
}

// Those in two parts are joined piece by piece for float activations.
void multiply_split_exactly(const Context& context, const Matrix& matrix, const SplitPanel& parts,
                            std::span<const Token> tokens, float* sums) {
  alignas(64) uint8_t scratch[kScratchNbytes];
  const size_t num_blocks = matrix.cols / kGroup, step = kScratchNbytes / (kUpperNbytes + kLowerNbytes);
  for (size_t block = 0; block < num_blocks; block += step) {
    const size_t count = std::min(step, num_blocks - block);
    context.kernels->join_panel(parts.upper + block * kUpperNbytes, parts.lower + block * kLowerNbytes, count, scratch);
    multiply_run(context, {matrix.format, scratch, block * kGroup, count * kGroup}, tokens, sums);
  }
}

void multiply_split(const Context& context, const Matrix& matrix, Panels panels, std::span<const Token> tokens,
                    float* sums) {
  const size_t num_blocks = matrix.cols / kGroup, size = tokens.size() * kPanelRows;
  const SplitPanel first = find_split(matrix.data, matrix.num_panels(), num_blocks, panels.first);
  if (!context.exact)
    return context.kernels->multiply_split(first, panels.count, matrix.cols, tokens.data(), tokens.size(), sums);
  for (size_t p = 0; p < panels.count; ++p)
    multiply_split_exactly(context, matrix, first.after(p, num_blocks), tokens, sums + p * size);
}

}  // namespace

Activations activations_for(const Context& context, Arithmetic arithmetic) {
  if (context.exact) return Activations::floats;
  switch (arithmetic) {
    case Arithmetic::floats: return Activations::floats;
    case Arithmetic::signed8: return Activations::pairs;
    case Arithmetic::unsigned3:
    case Arithmetic::unsigned6: return Activations::bytes16;
    default: return Activations::bytes32;
  }
}

std::span<Token> prepare_tokens(const Context& context, Scratch& work, const float* x, size_t num_tokens, size_t stride,
                                size_t num_cols, Activations kind, bool apart) {
  const std::span<Token> tokens = work.take<Token>(num_tokens);
  if (kind == Activations::floats) {
    for (size_t t = 0; t < num_tokens; ++t) tokens[t] = {x + t * stride};
    return tokens;
  }
  const size_t token_nbytes = num_cols / kGroup * group_nbytes(kind);
  uint8_t* groups = work.take<uint8_t>(num_tokens * token_nbytes).data();
  const auto quantize = [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t) {
      uint8_t* own = groups + t * token_nbytes;
      tokens[t] = {own, context.kernels->quantize(x + t * stride, num_cols, kind, apart, own)};
    }
  };
  Pool::shared().run(num_tokens, std::max<size_t>(1, kFewNumbers / std::max<size_t>(1, num_cols)), context.threads,
                     quantize);
  return tokens;
}

void multiply_panels(const Context& context, const Matrix& matrix, Panels panels, std::span<const Token> tokens,
                     float* sums, const uint8_t* next) {
  const size_t size = tokens.size() * kPanelRows;
  std::fill(sums, sums + panels.count * size, 0.0f);
  if (matrix.split) return multiply_split(context, matrix, panels, tokens, sums);
  if (!matrix.interleaved) {
    for (size_t p = 0; p < panels.count; ++p) multiply_rows(context, matrix, panels.first + p, tokens, sums + p * size);
    return;
  }
  const Run run{matrix.format, matrix.panel(panels.first), 0, matrix.cols, panels.count, matrix.panel_nbytes(), next};
  multiply_run(context, run, tokens, sums);
}

}  // namespace apportion
