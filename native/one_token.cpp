#include "one_token.h"

namespace apportion {

void multiply_panels(const Context& context, std::span<const PanelProduct> products) {
  const Matrix& first = *products[0].matrix;
  const bool alike =
      first.interleaved && !context.exact && std::ranges::all_of(products, [&](const PanelProduct& product) {
        return product.matrix->interleaved && product.matrix->format == first.format;
      });
  if (!alike) {
    for (const PanelProduct& product : products)
      multiply_panel(context, *product.matrix, product.panel, {product.token, 1}, product.sums);
    return;
  }
  const size_t panel_nbytes = kPanelRows * first.format->row_nbytes(first.cols);
  Pass passes[kSideBySide];
  for (size_t i = 0; i < products.size(); ++i) {
    std::fill_n(products[i].sums, kPanelRows, 0.0f);
    passes[i] = {products[i].matrix->data + products[i].panel * panel_nbytes, products[i].token, products[i].sums};
  }
  context.kernels->multiply_side_by_side(*first.format, first.cols, passes, products.size());
}

void multiply_gated(const Context& context, const GatedOne& one, const Stretch& stretch) {
  constexpr size_t kPairs = kSideBySide / 2;
  const auto add_bias = [](float* sums, const float* bias, size_t row, size_t num_rows) {
    for (size_t r = 0; bias && r < num_rows; ++r) sums[r] += bias[row + r];
  };
  walk(stretch, kPairs, [&](std::span<const size_t> panels) {
    float gates[kPairs][kPanelRows], ups[kPairs][kPanelRows];
    PanelProduct parts[kSideBySide];
    for (size_t i = 0; i < panels.size(); ++i) {
      parts[2 * i] = {&one.gate, panels[i], one.gate_token, gates[i]};
      parts[2 * i + 1] = {&one.up, panels[i], one.up_token, ups[i]};
    }
    multiply_panels(context, {parts, 2 * panels.size()});
    for (size_t i = 0; i < panels.size(); ++i) {
      const size_t row = panels[i] * kPanelRows, num_rows = std::min(kPanelRows, one.gate.rows - row);
      add_bias(gates[i], one.gate_bias, row, num_rows);
      add_bias(ups[i], one.up_bias, row, num_rows);
      context.kernels->gate(gates[i], ups[i], kPanelRows, one.kind, gates[i]);
      std::copy_n(gates[i], num_rows, one.out + row);
    }
  });
}

}  // namespace apportion
