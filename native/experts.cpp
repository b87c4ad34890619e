#include "experts.h"

#include <algorithm>
#include <numeric>

#include "one_token.h"
#include "panel_row.h"

namespace apportion {

namespace {

constexpr size_t kPlacesAtATime = 1024;  // bounds what a part needs beside its input
constexpr size_t kRowsAhead = 8;         // of sums, which lie far from one another, are asked for

Matrix matrix_at(const Matrix& first, const uint8_t* place, size_t index) {
  Matrix matrix = first;
  matrix.data = place ? place : first.data + index * first.nbytes();
  return matrix;
}

void add_bias(float* sums, size_t num_tokens, const float* bias, size_t num_rows) {
  for (size_t t = 0; t < num_tokens; ++t)
    for (size_t r = 0; r < num_rows; ++r) sums[t * kPanelRows + r] += bias[r];
}

}  // namespace

Matrix ExpertPass::gate_of(size_t expert) const {
  return matrix_at(experts_->gate, experts_->places ? experts_->places[expert].gate : nullptr, expert);
}

Matrix ExpertPass::up_of(size_t expert) const {
  return matrix_at(experts_->up, experts_->places ? experts_->places[expert].up : nullptr, expert);
}

Matrix ExpertPass::down_of(size_t expert) const {
  return matrix_at(experts_->down, experts_->places ? experts_->places[expert].down : nullptr, expert);
}

void ExpertPass::begin(const Context& context, const ExpertInput& input, const Experts& experts, GateKind kind,
                       float* out) {
  context_ = &context;
  input_ = input;
  experts_ = &experts;
  kind_ = kind;
  out_ = out;
  scratch_.reset();
  group();
  is_one_ = input.num_tokens == 1 && most_places() <= 1;
  const size_t H = experts.gate.cols, T = input.num_tokens;
  gate_tokens_ = prepare_tokens(context, scratch_, input.x, T, H, H, *experts.gate.format);
  const bool alike = experts.gate.format->arithmetic == experts.up.format->arithmetic;
  up_tokens_ = alike ? gate_tokens_ : prepare_tokens(context, scratch_, input.x, T, H, H, *experts.up.format);
  if (is_one_)
    parts_ = scratch_.take<float>(input.per_token * H);
  else
    std::fill_n(out, T * H, 0.0f);
}

void ExpertPass::group() {
  const size_t num_places = input_.num_tokens * input_.per_token;
  starts_ = scratch_.take<size_t>(experts_->count + 2);
  std::fill(starts_.begin(), starts_.end(), 0);
  // Two ahead: filling the lists below moves each expert's start to the next one's.
  for (size_t i = 0; i < num_places; ++i) ++starts_[size_t(input_.ids[i]) + 2];
  std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
  tokens_ = scratch_.take<uint32_t>(num_places);
  weights_ = scratch_.take<float>(num_places);
  for (size_t i = 0; i < num_places; ++i) {
    const size_t place = starts_[size_t(input_.ids[i]) + 1]++;
    tokens_[place] = uint32_t(i / input_.per_token);
    weights_[place] = input_.weights[i];
  }
}

size_t ExpertPass::most_places() const {
  size_t most = 0;
  for (size_t expert = 0; expert < experts_->count; ++expert)
    most = std::max(most, starts_[expert + 1] - starts_[expert]);
  return most;
}

void ExpertPass::apply(std::span<const uint32_t> experts) {
  constexpr size_t kMostPieces = 64;
  Piece pieces[kMostPieces];
  size_t count = 0, places = 0;
  const auto flush = [&] {
    if (count) is_one_ ? apply_to_one({pieces, count}) : apply_to_many({pieces, count});
    count = places = 0;
  };
  for (const uint32_t expert : experts)
    for (size_t begin = starts_[expert]; begin < starts_[expert + 1];) {
      if (count == kMostPieces || places == kPlacesAtATime) flush();
      const size_t end = std::min(starts_[expert + 1], begin + kPlacesAtATime - places);
      pieces[count++] = {expert, begin, end, places};
      places += end - begin;
      begin = end;
    }
  flush();
}

void ExpertPass::end() {
  if (!is_one_) return;
  const size_t H = experts_->down.rows;
  Pool::shared().run(H, kFewNumbers / std::max<size_t>(1, weights_.size()), context_->threads,
                     [&](size_t begin, size_t end, unsigned) {
                       std::fill(out_ + begin, out_ + end, 0.0f);
                       for (size_t place = 0; place < weights_.size(); ++place) {
                         const float *part = parts_.data() + place * H, weight = weights_[place];
                         for (size_t r = begin; r < end; ++r) out_[r] += weight * part[r];
                       }
                     });
}

// --- one token: its experts' panels are read side by side ---

void ExpertPass::apply_to_one(std::span<const Piece> pieces) {
  Workspace work;
  const size_t F = experts_->gate.rows, num_panels = experts_->gate.num_panels();
  const std::span<float> inner = work.take<float>(pieces.size() * F);
  const std::span<size_t> counts = work.take<size_t>(pieces.size());
  std::fill(counts.begin(), counts.end(), num_panels);
  for_stretches(*context_, counts, 2 * experts_->gate.cols, [&](const Stretch& stretch, unsigned) {
    const size_t expert = pieces[stretch.matrix].expert;
    const Matrix gate = gate_of(expert), up = up_of(expert);
    const GatedOne one{gate,
                       up,
                       gate_tokens_.data(),
                       up_tokens_.data(),
                       experts_->gate_bias ? experts_->gate_bias + expert * F : nullptr,
                       experts_->up_bias ? experts_->up_bias + expert * F : nullptr,
                       kind_,
                       inner.data() + stretch.matrix * F};
    multiply_gated(*context_, one, stretch);
  });
  const std::span<const Token> inner_tokens =
      prepare_tokens(*context_, work, inner.data(), pieces.size(), F, F, *experts_->down.format);
  const size_t down_panels = experts_->down.num_panels();
  Pool::shared().run(down_panels, even_grain(down_panels, context_->threads, 16), context_->threads,
                     [&](size_t begin, size_t end, unsigned) {
                       for (size_t panel = begin; panel < end; ++panel) down_of_one(pieces, inner_tokens, panel);
                     });
}

void ExpertPass::down_of_one(std::span<const Piece> pieces, std::span<const Token> inner, size_t panel) {
  const size_t H = experts_->down.rows, row = panel * kPanelRows, num_rows = experts_->down.rows_of(panel);
  for (size_t first = 0; first < pieces.size(); first += kSideBySide) {
    const size_t count = std::min(kSideBySide, pieces.size() - first);
    float sums[kSideBySide][kPanelRows];
    Matrix matrices[kSideBySide];
    PanelProduct products[kSideBySide];
    for (size_t i = 0; i < count; ++i) {
      matrices[i] = down_of(pieces[first + i].expert);
      products[i] = {&matrices[i], panel, &inner[first + i], sums[i]};
    }
    multiply_one(*context_, {products, count});
    for (size_t i = 0; i < count; ++i) {
      const Piece& piece = pieces[first + i];
      if (experts_->down_bias) add_bias(sums[i], 1, experts_->down_bias + piece.expert * H + row, num_rows);
      std::copy_n(sums[i], num_rows, parts_.data() + piece.begin * H + row);
    }
  }
}

// --- many tokens ---

void ExpertPass::apply_to_many(std::span<const Piece> pieces) {
  Workspace work;
  const size_t F = experts_->gate.rows, num_pairs = experts_->gate.num_pairs();
  const size_t num_places = pieces.back().at + pieces.back().count();
  size_t most = 0;
  for (const Piece& piece : pieces) most = std::max(most, piece.count());
  const auto placed = [&](std::span<const Token> all) {
    const std::span<Token> tokens = work.take<Token>(num_places);
    for (const Piece& piece : pieces)
      for (size_t i = 0; i < piece.count(); ++i) tokens[piece.at + i] = all[tokens_[piece.begin + i]];
    return std::span<const Token>(tokens);
  };
  const std::span<const Token> gate_tokens = placed(gate_tokens_);
  const std::span<const Token> up_tokens = up_tokens_.data() == gate_tokens_.data() ? gate_tokens : placed(up_tokens_);
  const size_t room = 2 * most * 2 * kPanelRows;  // of two panels of gate and of up
  const std::span<float> sums = work.take<float>(context_->threads * room), inner = work.take<float>(num_places * F);
  const size_t num_tasks = pieces.size() * num_pairs;
  Pool::shared().run(num_tasks, even_grain(num_tasks, context_->threads, 16), context_->threads, Claims::single,
                     [&](size_t begin, size_t end, unsigned worker) {
                       for (size_t i = begin; i < end; ++i)
                         gate_and_up(pieces[i / num_pairs], experts_->gate.pair(i % num_pairs), gate_tokens, up_tokens,
                                     sums.data() + worker * room, inner.data());
                     });
  const std::span<const Token> inner_tokens =
      prepare_tokens(*context_, work, inner.data(), num_places, F, F, *experts_->down.format);
  const size_t down_pairs = experts_->down.num_pairs();
  Pool::shared().run(down_pairs, even_grain(down_pairs, context_->threads, 16), context_->threads,
                     [&](size_t begin, size_t end, unsigned worker) {
                       for (size_t i = begin; i < end; ++i)
                         down(pieces, experts_->down.pair(i), inner_tokens, sums.data() + worker * room);
                     });
}

// Panels of an expert's gate and up matrices for its tokens -> inner [places, F].
void ExpertPass::gate_and_up(const Piece& piece, const Panels& panels, std::span<const Token> gate_tokens,
                             std::span<const Token> up_tokens, float* sums, float* inner) const {
  const size_t F = experts_->gate.rows, count = piece.count(), size = count * kPanelRows;
  float *gates = sums, *ups = sums + panels.count * size;
  const Matrix gate = gate_of(piece.expert), up = up_of(piece.expert);
  const size_t after = panels.first + panels.count;
  multiply_panels(*context_, gate, panels, gate_tokens.subspan(piece.at, count), gates, up.panel(panels.first));
  multiply_panels(*context_, up, panels, up_tokens.subspan(piece.at, count), ups, gate.panel(after));
  for (size_t panel = panels.first; panel < panels.first + panels.count; ++panel, gates += size, ups += size) {
    const size_t row = panel * kPanelRows, num_rows = experts_->gate.rows_of(panel);
    if (experts_->gate_bias) add_bias(gates, count, experts_->gate_bias + piece.expert * F + row, num_rows);
    if (experts_->up_bias) add_bias(ups, count, experts_->up_bias + piece.expert * F + row, num_rows);
    context_->kernels->gate(gates, ups, size, kind_, gates);
    with_rows(num_rows, [&](auto rows) {
      for (size_t t = 0; t < count; ++t)
        PanelRow::load(gates + t * kPanelRows, rows).store(inner + (piece.at + t) * F + row, rows);
    });
  }
}

// Panels of every expert's down matrix, weighted and added up in the experts' order.
void ExpertPass::down(std::span<const Piece> pieces, const Panels& panels, std::span<const Token> inner,
                      float* sums) const {
  const size_t H = experts_->down.rows;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const Piece& piece = pieces[p];
    const uint8_t* next = p + 1 < pieces.size() ? down_of(pieces[p + 1].expert).panel(panels.first)
                                                : down_of(pieces[0].expert).panel(panels.first + panels.count);
    multiply_panels(*context_, down_of(piece.expert), panels, inner.subspan(piece.at, piece.count()), sums, next);
    const float* from = sums;
    for (size_t panel = panels.first; panel < panels.first + panels.count; ++panel) {
      const size_t row = panel * kPanelRows;
      with_rows(experts_->down.rows_of(panel), [&](auto num_rows) {
        PanelRow bias{};
        if (experts_->down_bias) bias = PanelRow::load(experts_->down_bias + piece.expert * H + row, num_rows);
        for (size_t i = 0; i < piece.count(); ++i, from += kPanelRows) {
          float* to = out_ + tokens_[piece.begin + i] * H + row;
          if (i + kRowsAhead < piece.count())
            __builtin_prefetch(out_ + tokens_[piece.begin + i + kRowsAhead] * H + row, 1);
          const PanelRow part = weights_[piece.begin + i] * (PanelRow::load(from, num_rows) + bias);
          (PanelRow::load(to, num_rows) + part).store(to, num_rows);
        }
      });
    }
  }
}

void apply_experts(const Context& context, const ExpertInput& input, const Experts& experts, GateKind kind,
                   float* out) {
  thread_local ExpertPass pass;
  pass.begin(context, input, experts, kind, out);
  thread_local std::vector<uint32_t> all;
  for (size_t expert = all.size(); expert < experts.count; ++expert) all.push_back(uint32_t(expert));
  pass.apply({all.data(), experts.count});
  pass.end();
}

}  // namespace apportion
