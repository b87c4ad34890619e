#include "project.h"

#include <array>

#include "one_token.h"
#include "pairs.h"
#include "panel_row.h"

namespace apportion {

namespace {

// One input in every kind of activations that products with it ask for.
class Prepared {
 public:
  Prepared(const Context& context, Workspace& work, const float* x, size_t num_tokens, size_t num_cols, bool apart)
      : context_(context), work_(work), x_(x), num_tokens_(num_tokens), num_cols_(num_cols), apart_(apart) {}

  std::span<const Token> of(const Format& format) {
    std::span<const Token>& tokens = kinds_[size_t(activations_for(context_, format.arithmetic))];
    if (tokens.empty()) tokens = prepare_tokens(context_, work_, x_, num_tokens_, num_cols_, num_cols_, format, apart_);
    return tokens;
  }

 private:
  const Context& context_;
  Workspace& work_;
  const float* x_;
  size_t num_tokens_, num_cols_;
  bool apart_;
  std::array<std::span<const Token>, 4> kinds_;
};

void store(const Product& product, size_t panel, size_t token, size_t num_tokens, const float* sums) {
  const size_t N = product.matrix.rows, row = panel * kPanelRows;
  float* out = product.out + token * N + row;
  with_rows(product.matrix.rows_of(panel), [&](auto num_rows) {
    PanelRow bias{};
    if (product.bias) bias = PanelRow::load(product.bias + row, num_rows);
    for (size_t t = 0; t < num_tokens; ++t, sums += kPanelRows, out += N) {
      PanelRow own = PanelRow::load(sums, num_rows) + bias;
      if (product.add) own = PanelRow::load(out, num_rows) + product.scale * own;
      own.store(out, num_rows);
    }
  });
}

// Asks for where a product's panels will be stored: another thread had it last.
void ask_for_places(const Product& product, Panels panels, size_t token, size_t num_tokens) {
  const size_t N = product.matrix.rows;
  for (size_t t = token; t < token + num_tokens; ++t)
    for (size_t p = 0; p < panels.count; ++p)
      __builtin_prefetch(product.out + t * N + (panels.first + p) * kPanelRows, 1);
}

void project_one(const Context& context, std::span<const std::span<const Token>> tokens,
                 std::span<const Product> products) {
  std::array<size_t, kMostProducts> counts;
  for (size_t i = 0; i < products.size(); ++i) counts[i] = products[i].matrix.num_panels();
  const auto multiply = [&](const Stretch& stretch, unsigned) {
    const Product& product = products[stretch.matrix];
    for (size_t panel = stretch.first; panel < stretch.first + stretch.count; ++panel) {
      float sums[kPanelRows];
      const PanelProduct part{&product.matrix, panel, tokens[stretch.matrix].data(), sums};
      multiply_one(context, {&part, 1});
      store(product, panel, 0, 1, sums);
    }
  };
  for_stretches(context, {counts.data(), products.size()}, products[0].matrix.cols, multiply);
}

}  // namespace

void project(const Context& context, const float* x, size_t num_tokens, std::span<const Product> products, bool apart) {
  Workspace work;
  const size_t num_cols = products[0].matrix.cols;
  Prepared prepared(context, work, x, num_tokens, num_cols, apart);
  std::array<std::span<const Token>, kMostProducts> tokens;
  size_t num_pairs = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    tokens[i] = prepared.of(*products[i].matrix.format);
    num_pairs += products[i].matrix.num_pairs();
  }
  if (num_tokens == 1) return project_one(context, tokens, products);
  const auto multiply = [&](size_t pair, size_t token, size_t count, float* sums) {
    size_t i = 0;
    for (; pair >= products[i].matrix.num_pairs(); ++i) pair -= products[i].matrix.num_pairs();
    const Panels panels = products[i].matrix.pair(pair);
    ask_for_places(products[i], panels, token, count);
    multiply_panels(context, products[i].matrix, panels, tokens[i].subspan(token, count), sums);
    for (size_t p = 0; p < panels.count; ++p)
      store(products[i], panels.first + p, token, count, sums + p * count * kPanelRows);
  };
  for_pairs(context, work, num_pairs, num_tokens, num_cols, kPairRows, multiply);
}

void project_gated(const Context& context, const float* x, size_t num_tokens, const Matrix& gate, const Matrix& up,
                   GateKind kind, float* out) {
  Workspace work;
  Prepared prepared(context, work, x, num_tokens, gate.cols, false);
  const std::span<const Token> gate_tokens = prepared.of(*gate.format), up_tokens = prepared.of(*up.format);
  if (num_tokens == 1) {
    const GatedOne one{gate, up, gate_tokens.data(), up_tokens.data(), nullptr, nullptr, kind, out};
    return for_stretches(context, {{gate.num_panels()}}, 2 * gate.cols,
                         [&](const Stretch& stretch, unsigned) { multiply_gated(context, one, stretch); });
  }
  const auto multiply = [&](size_t pair, size_t token, size_t count, float* sums) {
    const Panels panels = gate.pair(pair);
    float *gates = sums, *ups = sums + count * kPairRows;
    multiply_panels(context, gate, panels, gate_tokens.subspan(token, count), gates);
    multiply_panels(context, up, panels, up_tokens.subspan(token, count), ups);
    context.kernels->gate(gates, ups, panels.count * count * kPanelRows, kind, gates);
    for (size_t p = 0; p < panels.count; ++p) {
      float* const to = out + token * gate.rows + (panels.first + p) * kPanelRows;
      with_rows(gate.rows_of(panels.first + p), [&](auto num_rows) {
        for (size_t t = 0; t < count; ++t, gates += kPanelRows)
          PanelRow::load(gates, num_rows).store(to + t * gate.rows, num_rows);
      });
    }
  };
  for_pairs(context, work, gate.num_pairs(), num_tokens, gate.cols, 2 * kPairRows, multiply);
}

void project_heads(const Context& context, const float* x, size_t num_tokens, size_t num_heads, const Matrix& first,
                   size_t keep, float* out) {
  Workspace work;
  const size_t K = first.cols, N = first.rows, num_pairs = first.num_pairs();
  // Token t of head h is row t * heads + h of x; tokens are kept head by head.
  const std::span<const Token> rows =
      prepare_tokens(context, work, x, num_tokens * num_heads, K + keep, K, *first.format);
  const std::span<Token> tokens = work.take<Token>(rows.size());
  for (size_t t = 0; t < num_tokens; ++t)
    for (size_t h = 0; h < num_heads; ++h) tokens[h * num_tokens + t] = rows[t * num_heads + h];

  const auto multiply = [&](size_t i, size_t token, size_t count, float* sums) {
    const size_t head = i / num_pairs;
    const Panels panels = first.pair(i % num_pairs);
    Matrix matrix = first;
    matrix.data += head * first.nbytes();
    multiply_panels(context, matrix, panels, tokens.subspan(head * num_tokens + token, count), sums);
    for (size_t p = 0; p < panels.count; ++p) {
      const size_t row = (panels.first + p) * kPanelRows, num_rows = first.rows_of(panels.first + p);
      for (size_t t = 0; t < count; ++t, sums += kPanelRows) {
        const size_t place = (token + t) * num_heads + head;
        std::copy_n(sums, num_rows, out + place * (N + keep) + row);
        if (row == 0) std::copy_n(x + place * (K + keep) + K, keep, out + place * (N + keep) + N);
      }
    }
  };
  for_pairs(context, work, num_heads * num_pairs, num_tokens, K, kPairRows, multiply);
}

}  // namespace apportion
