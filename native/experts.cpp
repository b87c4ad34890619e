#include "experts.h"

#include <algorithm>

#include "one_token.h"

namespace apportion {

namespace {

// The tokens of one expert are the places begin .. end - 1 of lists that are sorted by expert.
struct Chosen {
  size_t expert, begin, end;
};

struct Grouping {
  std::span<Chosen> experts;   // those that were chosen at all, by id
  std::span<uint32_t> tokens;  // by place
  std::span<float> weights;
};

Grouping group_by_expert(Workspace& work, const int32_t* ids, const float* weights, size_t num_tokens, size_t per_token,
                         size_t num_experts) {
  const size_t num_places = num_tokens * per_token;
  const std::span<size_t> ends = work.take<size_t>(num_experts + 1);
  std::fill(ends.begin(), ends.end(), 0);
  for (size_t i = 0; i < num_places; ++i) ++ends[size_t(ids[i]) + 1];
  Grouping out{work.take<Chosen>(num_experts), work.take<uint32_t>(num_places), work.take<float>(num_places)};
  size_t num_chosen = 0;
  for (size_t e = 0; e < num_experts; ++e) {
    if (ends[e + 1]) out.experts[num_chosen++] = {e, ends[e], ends[e] + ends[e + 1]};
    ends[e + 1] += ends[e];
  }
  out.experts = out.experts.first(num_chosen);
  for (size_t i = 0; i < num_places; ++i) {
    const size_t place = ends[size_t(ids[i])]++;
    out.tokens[place] = uint32_t(i / per_token);
    out.weights[place] = weights[i];
  }
  return out;
}

Matrix nth(const Matrix& first, size_t index) {
  Matrix matrix = first;
  matrix.data += index * first.nbytes();
  return matrix;
}

void add_bias(float* sums, size_t num_tokens, const float* bias, size_t num_rows) {
  for (size_t t = 0; t < num_tokens; ++t)
    for (size_t r = 0; r < num_rows; ++r) sums[t * kPanelRows + r] += bias[r];
}

// One panel of rows of the gate and up matrices for the tokens of one expert -> inner [places, F].
void gate_and_up(const Context& context, const Experts& experts, const Chosen& chosen, size_t panel,
                 std::span<const Token> gate_tokens, std::span<const Token> up_tokens, GateKind kind, float* sums,
                 float* inner) {
  const size_t F = experts.gate.rows, row = panel * kPanelRows, num_rows = std::min(kPanelRows, F - row);
  const size_t count = chosen.end - chosen.begin;
  float *gate = sums, *up = sums + count * kPanelRows;
  multiply_panel(context, nth(experts.gate, chosen.expert), panel, gate_tokens.subspan(chosen.begin, count), gate);
  multiply_panel(context, nth(experts.up, chosen.expert), panel, up_tokens.subspan(chosen.begin, count), up);
  if (experts.gate_bias) add_bias(gate, count, experts.gate_bias + chosen.expert * F + row, num_rows);
  if (experts.up_bias) add_bias(up, count, experts.up_bias + chosen.expert * F + row, num_rows);
  context.kernels->gate(gate, up, count * kPanelRows, kind, gate);
  for (size_t t = 0; t < count; ++t) std::copy_n(gate + t * kPanelRows, num_rows, inner + (chosen.begin + t) * F + row);
}

// One panel of rows of every chosen expert's down matrix, weighted and added up in the experts' order.
void down_panel(const Context& context, const Experts& experts, const Grouping& grouping, size_t panel,
                std::span<const Token> inner, float* sums, size_t num_tokens, float* out) {
  const size_t H = experts.down.rows, row = panel * kPanelRows, num_rows = std::min(kPanelRows, H - row);
  for (size_t t = 0; t < num_tokens; ++t) std::fill_n(out + t * H + row, num_rows, 0.0f);
  for (const Chosen& chosen : grouping.experts) {
    const size_t count = chosen.end - chosen.begin;
    multiply_panel(context, nth(experts.down, chosen.expert), panel, inner.subspan(chosen.begin, count), sums);
    if (experts.down_bias) add_bias(sums, count, experts.down_bias + chosen.expert * H + row, num_rows);
    for (size_t i = 0; i < count; ++i) {
      float* to = out + grouping.tokens[chosen.begin + i] * H + row;
      const float weight = grouping.weights[chosen.begin + i];
      for (size_t r = 0; r < num_rows; ++r) to[r] += weight * sums[i * kPanelRows + r];
    }
  }
}

// The same for one token: a stretch of the panels of one of its experts -> inner [F].
void gate_and_up_of_one(const Context& context, const Experts& experts, size_t expert, const Stretch& stretch,
                        const Token* gate_token, const Token* up_token, GateKind kind, float* inner) {
  const Matrix gate = nth(experts.gate, expert), up = nth(experts.up, expert);
  const size_t F = gate.rows;
  const GatedOne one{gate,
                     up,
                     gate_token,
                     up_token,
                     experts.gate_bias ? experts.gate_bias + expert * F : nullptr,
                     experts.up_bias ? experts.up_bias + expert * F : nullptr,
                     kind,
                     inner};
  multiply_gated(context, one, stretch);
}

// The same for one token: its experts' panels are read side by side.
void down_panel_of_one(const Context& context, const Experts& experts, const Grouping& grouping, size_t panel,
                       std::span<const Token> inner, float* out) {
  const size_t H = experts.down.rows, row = panel * kPanelRows, num_rows = std::min(kPanelRows, H - row);
  std::fill_n(out + row, num_rows, 0.0f);
  for (size_t first = 0; first < grouping.experts.size(); first += kSideBySide) {
    const size_t count = std::min(kSideBySide, grouping.experts.size() - first);
    float sums[kSideBySide][kPanelRows];
    Matrix matrices[kSideBySide];
    PanelProduct parts[kSideBySide];
    for (size_t i = 0; i < count; ++i) {
      matrices[i] = nth(experts.down, grouping.experts[first + i].expert);
      parts[i] = {&matrices[i], panel, &inner[first + i], sums[i]};
    }
    multiply_panels(context, {parts, count});
    for (size_t i = 0; i < count; ++i) {
      if (experts.down_bias)
        add_bias(sums[i], 1, experts.down_bias + grouping.experts[first + i].expert * H + row, num_rows);
      const float weight = grouping.weights[first + i];
      for (size_t r = 0; r < num_rows; ++r) out[row + r] += weight * sums[i][r];
    }
  }
}

size_t most_tokens(const Grouping& grouping) {
  size_t most = 0;
  for (const Chosen& chosen : grouping.experts) most = std::max(most, chosen.end - chosen.begin);
  return most;
}

// Tokens of x in the places' order.
std::span<Token> tokens_by_place(const Context& context, Workspace& work, const float* x, size_t num_tokens,
                                 const Matrix& matrix, const Grouping& grouping) {
  const std::span<Token> all = prepare_tokens(context, work, x, num_tokens, matrix.cols, matrix.cols, *matrix.format);
  const std::span<Token> placed = work.take<Token>(grouping.tokens.size());
  for (size_t i = 0; i < placed.size(); ++i) placed[i] = all[grouping.tokens[i]];
  return placed;
}

}  // namespace

void apply_experts(const Context& context, const float* x, const int32_t* ids, const float* weights, size_t num_tokens,
                   size_t per_token, const Experts& experts, GateKind kind, float* out) {
  Workspace work;
  const Grouping grouping = group_by_expert(work, ids, weights, num_tokens, per_token, experts.count);
  const size_t num_places = num_tokens * per_token, F = experts.gate.rows,
               room = 2 * most_tokens(grouping) * kPanelRows;
  const std::span<Token> gate_tokens = tokens_by_place(context, work, x, num_tokens, experts.gate, grouping);
  const bool alike = experts.gate.format->arithmetic == experts.up.format->arithmetic;
  const std::span<Token> up_tokens =
      alike ? gate_tokens : tokens_by_place(context, work, x, num_tokens, experts.up, grouping);
  const std::span<float> sums = work.take<float>(context.threads * room), inner = work.take<float>(num_places * F);

  const size_t num_chosen = grouping.experts.size(), num_panels = experts.gate.num_panels();
  const bool is_one = num_tokens == 1 && num_chosen == per_token;  // no expert twice
  if (is_one) {
    const std::span<size_t> counts = work.take<size_t>(num_chosen);
    std::fill(counts.begin(), counts.end(), num_panels);
    for_stretches(context, counts, 2 * experts.gate.cols, [&](const Stretch& stretch, unsigned) {
      gate_and_up_of_one(context, experts, grouping.experts[stretch.matrix].expert, stretch, gate_tokens.data(),
                         up_tokens.data(), kind, inner.data() + stretch.matrix * F);
    });
  } else {
    const size_t num_tasks = num_chosen * num_panels;
    Pool::shared().run(num_tasks, even_grain(num_tasks, context.threads, 16), context.threads, Claims::single,
                       [&](size_t begin, size_t end, unsigned worker) {
                         for (size_t i = begin; i < end; ++i)
                           gate_and_up(context, experts, grouping.experts[i / num_panels], i % num_panels, gate_tokens,
                                       up_tokens, kind, sums.data() + worker * room, inner.data());
                       });
  }

  const std::span<Token> inner_tokens =
      prepare_tokens(context, work, inner.data(), num_places, F, F, *experts.down.format);
  const size_t down_panels = experts.down.num_panels();
  Pool::shared().run(down_panels, even_grain(down_panels, context.threads, 16), context.threads,
                     [&](size_t begin, size_t end, unsigned worker) {
                       for (size_t i = begin; i < end; ++i) {
                         if (is_one)
                           down_panel_of_one(context, experts, grouping, i, inner_tokens, out);
                         else
                           down_panel(context, experts, grouping, i, inner_tokens, sums.data() + worker * room,
                                      num_tokens, out);
                       }
                     });
}

}  // namespace apportion
