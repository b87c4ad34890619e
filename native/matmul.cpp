#include "matmul.h"

#include <algorithm>

namespace apportion {

namespace {

constexpr size_t kTokensAtATime = 128;  // their codes stay in the L2 cache while panels pass
constexpr size_t kPiece = 2;  // groups between two prefetches, or a whole block: few enough that none is dropped
constexpr size_t kFewNumbers = 1 << 14;  // less work than this is not worth waking a thread for

struct PanelRows {
  const uint8_t* row[kPanelRows];
  const uint8_t *next, *end;  // the panel after this one, of which ever more is asked for while this one is read

  PanelRows(const Matrix& matrix, size_t panel) {
    const size_t row_nbytes = matrix.format->row_nbytes(matrix.cols);
    for (size_t r = 0; r < kPanelRows; ++r)
      row[r] = matrix.data + std::min(panel * kPanelRows + r, matrix.rows - 1) * row_nbytes;
    next = matrix.data + std::min((panel + 1) * kPanelRows, matrix.rows) * row_nbytes;
    end = matrix.data + matrix.nbytes();
  }

  // Rows are read side by side in short pieces, which the processor does not foresee; memory order it does.
  void prefetch(size_t nbytes) {
    const uint8_t* last = next + std::min(nbytes, size_t(end - next));
    for (; next < last; next += 64) __builtin_prefetch(next);
    next = std::min(next, end);
  }
};

// Groups to unpack at a time: as even as whole blocks allow.
size_t groups_at_a_time(const Format& format, size_t num_groups) {
  const size_t unit = std::max<size_t>(1, format.block_size / kGroup);
  const size_t most = format.arithmetic == Arithmetic::signed8 ? kMaxGroups / 2 : kMaxGroups;
  const size_t parts = (num_groups + most - 1) / most;
  return std::min(most, round_up((num_groups + parts - 1) / parts, unit));
}

void multiply_floats(const Kernels& kernels, const Matrix& matrix, PanelRows& rows, std::span<const Token> tokens,
                     float* sums) {
  FloatPanel panel;
  const UnpackFloats unpack = kernels.unpack_floats(matrix.format->id);
  for (size_t col = 0; col < matrix.cols; col += kMaxFloatCols) {
    const size_t count = std::min(kMaxFloatCols, matrix.cols - col);
    rows.prefetch(kPanelRows * matrix.format->row_nbytes(count));
    for (size_t half = 0; half < 2; ++half) unpack(rows.row + half * kHalfRows, col, count, panel, half);
    kernels.dot_floats(panel, tokens.data(), tokens.size(), col, count, sums);
  }
}

void multiply_exactly(const Kernels& kernels, Arithmetic arithmetic, const Panel& panel, size_t first, size_t count,
                      std::span<const Token> tokens, float* sums) {
  FloatPanel numbers;
  constexpr size_t kStep = kMaxFloatCols / kGroup;
  for (size_t g = 0; g < count; g += kStep) {
    const size_t groups = std::min(kStep, count - g);
    kernels.expand(panel, arithmetic, g, groups, numbers);
    kernels.dot_floats(numbers, tokens.data(), tokens.size(), (first + g) * kGroup, groups * kGroup, sums);
  }
}

void multiply_codes(const Context& context, const Matrix& matrix, PanelRows& rows, std::span<const Token> tokens,
                    float* sums) {
  Panel panel;
  const Kernels& kernels = *context.kernels;
  const Arithmetic arithmetic = matrix.format->arithmetic;
  const Unpack unpack = kernels.unpack(matrix.format->id);
  const size_t num_groups = matrix.cols / kGroup, step = groups_at_a_time(*matrix.format, num_groups);
  for (size_t g = 0; g < num_groups; g += step) {
    const size_t count = std::min(step, num_groups - g);
    const size_t piece = std::max(kPiece, matrix.format->block_size / kGroup);
    for (size_t begin = 0; begin < count; begin += piece) {
      const size_t end = std::min(begin + piece, count);
      for (size_t half = 0; half < 2; ++half) {
        unpack(rows.row + half * kHalfRows, g, begin, end, panel, half);
        rows.prefetch(kHalfRows * matrix.format->row_nbytes((end - begin) * kGroup));
      }
    }
    if (context.exact)
      multiply_exactly(kernels, arithmetic, panel, g, count, tokens, sums);
    else
      kernels.dot(panel, arithmetic, tokens.data(), tokens.size(), g, count, sums);
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
  PanelRows rows(matrix, panel);
  if (matrix.format->arithmetic == Arithmetic::floats)
    multiply_floats(*context.kernels, matrix, rows, tokens, sums);
  else
    multiply_codes(context, matrix, rows, tokens, sums);
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
