#include "best.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "one_token.h"
#include "pairs.h"
#include "split.h"

namespace apportion {

namespace {

struct Best {
  float value;
  int32_t row;
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Best kNone{-kInfinity, std::numeric_limits<int32_t>::max()};

bool is_better(const Best& a, const Best& b) {
  const bool a_nan = std::isnan(a.value), b_nan = std::isnan(b.value);
  if (a_nan != b_nan) return a_nan;
  return a.value > b.value || ((a_nan || a.value == b.value) && a.row < b.row);
}

class Search {
 public:
  Search(const Context& context, Workspace& work, const float* x, size_t num_tokens, const Matrix& matrix,
         size_t num_rows, std::span<const int32_t> without)
      : context_(context),
        matrix_(matrix),
        num_rows_(num_rows),
        num_panels_((num_rows + kPanelRows - 1) / kPanelRows),
        without_(without),
        tokens_(prepare_tokens(context, work, x, num_tokens, matrix.cols, matrix.cols, Activations::pairs)),
        raised_(prepare_tokens(context, work, x, num_tokens, matrix.cols, matrix.cols, Activations::raised)),
        bounds_(work.take<float>(num_tokens * num_panels_)),
        places_(work.take<int32_t>(num_panels_)),
        found_(work.take<Best>(context.threads)) {
    num_tokens == 1 ? bound_one() : bound_many(work);
  }

  // Panels that were multiplied whole.
  size_t num_whole() const { return num_whole_; }

  Best find(size_t token) {
    const std::span<const float> bounds = bounds_.subspan(token * num_panels_, num_panels_);
    const size_t top = context_.kernels->find_largest(bounds.data(), num_panels_);
    Best best = kNone;
    size_t count = 0;
    if (std::isfinite(bounds[top])) {
      consider(token, top, best);
      count = context_.kernels->collect(bounds.data(), num_panels_, best.value, 0, places_.data());
    } else {
      while (count < num_panels_) places_[count] = int32_t(count), ++count;
    }
    num_whole_ += count;
    std::fill(found_.begin(), found_.end(), best);
    const size_t worthwhile = kFewNumbers / (matrix_.cols * kPanelRows) + 1;
    Pool::shared().run(count, worthwhile, context_.threads, [&](size_t begin, size_t end, unsigned worker) {
      Best own = best;
      for (size_t i = begin; i < end; ++i)
        if (!(bounds[size_t(places_[i])] < own.value)) consider(token, size_t(places_[i]), own);
      if (is_better(own, found_[worker])) found_[worker] = own;
    });
    for (const Best& one : found_)
      if (is_better(one, best)) best = one;
    return best.row == kNone.row ? Best{-kInfinity, 0} : best;
  }

 private:
  using Four = float __attribute__((vector_size(16)));

  // The largest of 16, or NaN if there is one.
  static float most_of(const float* sums) {
    Four most, wrong{};
    std::memcpy(&most, sums, sizeof most);
    for (size_t i = 0; i < kPanelRows; i += 4) {
      Four own;
      std::memcpy(&own, sums + i, sizeof own);
      most = own > most ? own : most;
      wrong += own - own;
    }
    const float all = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
    return all + (wrong[0] + wrong[1] + wrong[2] + wrong[3]);
  }

  Run upper(Panels panels) const {
    const size_t num_blocks = matrix_.cols / kGroup;
    const uint8_t* data = find_split(matrix_.data, matrix_.num_panels(), num_blocks, panels.first).upper;
    return {matrix_.format, data, 0, matrix_.cols, panels.count, num_blocks * kUpperNbytes};
  }

  void bound_one() {
    for_stretches(context_, {{num_panels_}}, matrix_.cols, [&](const Stretch& stretch, unsigned) {
      for (size_t panel = stretch.first; panel < stretch.first + stretch.count; ++panel) {
        float sums[kPanelRows] = {};
        context_.kernels->multiply_upper(upper({panel}), raised_.data(), 1, sums);
        bounds_[panel] = most_of(sums);
      }
    });
  }

  void bound_many(Workspace& work) {
    const auto multiply = [&](size_t pair, size_t token, size_t count, float* sums) {
      const Panels panels{2 * pair, std::min<size_t>(2, num_panels_ - 2 * pair)};
      std::fill_n(sums, panels.count * count * kPanelRows, 0.0f);
      context_.kernels->multiply_upper(upper(panels), raised_.data() + token, count, sums);
      for (size_t p = 0; p < panels.count; ++p)
        for (size_t t = token; t < token + count; ++t, sums += kPanelRows)
          bounds_[t * num_panels_ + panels.first + p] = most_of(sums);
    };
    for_pairs(context_, work, (num_panels_ + 1) / 2, raised_.size(), matrix_.cols, kPairRows, multiply);
  }

  void consider(size_t token, size_t panel, Best& best) const {
    float sums[kPanelRows];
    multiply_panels(context_, matrix_, {panel}, tokens_.subspan(token, 1), sums);
    const size_t first = panel * kPanelRows, count = std::min(kPanelRows, num_rows_ - first);
    for (size_t r = 0; r < count; ++r) {
      const Best own{sums[r], int32_t(first + r)};
      if (is_better(own, best) && !std::ranges::binary_search(without_, own.row)) best = own;
    }
  }

  const Context& context_;
  const Matrix& matrix_;
  size_t num_rows_, num_panels_, num_whole_ = 0;
  std::span<const int32_t> without_;
  std::span<const Token> tokens_, raised_;
  std::span<float> bounds_;  // [T][panels]
  std::span<int32_t> places_;
  std::span<Best> found_;  // by worker
};

}  // namespace

size_t find_best_rows(const Context& context, const float* x, size_t num_tokens, const Matrix& matrix, size_t num_rows,
                      std::span<const int32_t> without, float* values, int32_t* rows) {
  Workspace work;
  Search search(context, work, x, num_tokens, matrix, num_rows, without);
  for (size_t t = 0; t < num_tokens; ++t) {
    const Best best = search.find(t);
    values[t] = best.value;
    rows[t] = best.row;
  }
  return search.num_whole();
}

}  // namespace apportion
