#include "matmul.h"

#include <algorithm>

namespace apportion {

namespace {

constexpr size_t kTokensAtATime = 64;    // their codes stay in the L2 cache while panels pass
constexpr size_t kFewNumbers = 1 << 14;  // less work than this is not worth waking a thread for

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

std::span<Token> prepare_tokens(const Context& context, Workspace& work, const float* x, size_t num_tokens,
                                size_t stride, size_t num_cols, const Format& format) {
  const Activations kind = activations_for(context, format.arithmetic);
  const std::span<Token> tokens = work.take<Token>(num_tokens);
  if (kind == Activations::floats) {
    for (size_t t = 0; t < num_tokens; ++t) tokens[t] = {x + t * stride, nullptr, nullptr};
    return tokens;
  }
  const size_t num_groups = num_cols / kGroup;
  const size_t code_nbytes = kind == Activations::pairs ? 2 : 1, num_sums = kind == Activations::bytes16 ? 2 : 1;
  uint8_t* codes = work.take<uint8_t>(num_tokens * num_cols * code_nbytes).data();
  float* scales = work.take<float>(num_tokens * num_groups).data();
  float* sums = work.take<float>(num_tokens * num_groups * num_sums).data();
  const auto quantize = [&](size_t begin, size_t end, unsigned) {
    for (size_t t = begin; t < end; ++t) {
      uint8_t* own_codes = codes + t * num_cols * code_nbytes;
      float *own_scales = scales + t * num_groups, *own_sums = sums + t * num_groups * num_sums;
      context.kernels->quantize(x + t * stride, num_cols, kind, own_codes, own_scales, own_sums);
      tokens[t] = {own_codes, own_scales, own_sums};
    }
  };
  Pool::shared().run(num_tokens, std::max<size_t>(1, kFewNumbers / std::max<size_t>(1, num_cols)), context.threads,
                     quantize);
  return tokens;
}

void multiply_panel(const Context& context, const Matrix& matrix, size_t panel, std::span<const Token> tokens,
                    float* sums) {
  std::fill(sums, sums + tokens.size() * kPanelRows, 0.0f);
  if (!matrix.interleaved) return multiply_rows(context, matrix, panel, tokens, sums);
  const uint8_t* data = matrix.data + panel * kPanelRows * matrix.format->row_nbytes(matrix.cols);
  multiply_run(context, {matrix.format, data, 0, matrix.cols}, tokens, sums);
}

void linear(const Context& context, const float* x, size_t num_tokens, size_t num_heads, const Matrix& first,
            const float* bias, float* out) {
  const size_t N = first.rows, K = first.cols, num_panels = first.num_panels();
  Workspace work;
  // Token t of head h is row t * heads + h of x; tokens are kept head by head.
  const std::span<Token> all = prepare_tokens(context, work, x, num_tokens * num_heads, K, K, *first.format);
  std::span<Token> tokens = all;
  if (num_heads > 1) {
    tokens = work.take<Token>(all.size());
    for (size_t t = 0; t < num_tokens; ++t)
      for (size_t h = 0; h < num_heads; ++h) tokens[h * num_tokens + t] = all[t * num_heads + h];
  }
  const std::span<float> room = work.take<float>(context.threads * kTokensAtATime * kPanelRows);
  const size_t per_pass = num_heads * num_panels;
  const size_t num_passes = (num_tokens + kTokensAtATime - 1) / kTokensAtATime;

  const auto multiply = [&](size_t begin, size_t end, unsigned worker) {
    float* sums = room.data() + worker * kTokensAtATime * kPanelRows;
    for (size_t i = begin; i < end; ++i) {
      const size_t start = i / per_pass * kTokensAtATime, head = i % per_pass / num_panels, panel = i % num_panels;
      const size_t count = std::min(kTokensAtATime, num_tokens - start);
      Matrix matrix = first;
      matrix.data += head * first.nbytes();
      multiply_panel(context, matrix, panel, tokens.subspan(head * num_tokens + start, count), sums);
      const size_t row = panel * kPanelRows, num_rows = std::min(kPanelRows, N - row);
      for (size_t t = 0; t < count; ++t)
        for (size_t r = 0; r < num_rows; ++r)
          out[((start + t) * num_heads + head) * N + row + r] =
              sums[t * kPanelRows + r] + (bias ? bias[head * N + row + r] : 0.0f);
    }
  };
  const size_t count = num_passes * per_pass;
  const size_t worthwhile = kFewNumbers / std::max<size_t>(1, K * kPanelRows * std::min(num_tokens, kTokensAtATime));
  Pool::shared().run(count, std::max(worthwhile, even_grain(count, context.threads, 8)), context.threads, multiply);
}

}  // namespace apportion
