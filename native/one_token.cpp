#include "one_token.h"

namespace apportion {

void multiply_one(const Context& context, std::span<const PanelProduct> products) {
  const Matrix& first = *products[0].matrix;
  const bool alike =
      first.interleaved && !context.exact && std::ranges::all_of(products, [&](const PanelProduct& product) {
        return product.matrix->interleaved && product.matrix->format == first.format;
      });
  if (!alike) {
    for (const PanelProduct& product : products)
      multiply_panels(context, *product.matrix, {product.panel}, {product.token, 1}, product.sums);
    return;
  }
  Pass passes[kSideBySide];
  for (size_t i = 0; i < products.size(); ++i) {
    std::fill_n(products[i].sums, kPanelRows, 0.0f);
    passes[i] = {products[i].matrix->panel(products[i].panel), products[i].token, products[i].sums};
  }
  context.kernels->multiply_side_by_side(*first.format, first.cols, passes, products.size());
}

void multiply_gated(const Context& context, const GatedOne& one, const Stretch& stretch) {
  const auto add_bias = [](float* sums, const float* bias, size_t row, size_t num_rows) {
    for (size_t r = 0; bias && r < num_rows; ++r) sums[r] += bias[row + r];
  };
  for (size_t panel = stretch.first; panel < stretch.first + stretch.count; ++panel) {
    float gates[kPanelRows], ups[kPanelRows];
    const PanelProduct parts[] = {{&one.gate, panel, one.gate_token, gates}, {&one.up, panel, one.up_token, ups}};
    multiply_one(context, parts);
    const size_t row = panel * kPanelRows, num_rows = std::min(kPanelRows, one.gate.rows - row);
    add_bias(gates, one.gate_bias, row, num_rows);
    add_bias(ups, one.up_bias, row, num_rows);
    context.kernels->gate(gates, ups, kPanelRows, one.kind, gates);
    std::copy_n(gates, num_rows, one.out + row);
  }
}

}  // namespace apportion
