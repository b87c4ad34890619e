#include "sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "workspace.h"

namespace apportion {

namespace {

constexpr size_t kChunk = 1024;       // logits between two looks at what was collected
constexpr size_t kWeightGroup = 512;  // logits whose weights are added up in float
constexpr size_t kFew = 256;          // candidates that keep_reaching sorts before it looks at all
constexpr size_t kBuckets = 2048;     // of logits, by how far they are below the best
constexpr float kBucketsPerUnit = 64;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

auto better_in(Logits logits) {
  return [logits](int32_t a, int32_t b) {
    const float x = logits[size_t(a)], y = logits[size_t(b)];
    return x > y || (x == y && a < b);
  };
}

// Calls body(first, sum, weights) for every group with its weights e^((logit - top) * factor) and their sum.
template <class Body>
void for_groups(const Kernels& kernels, Logits logits, float top, float factor, Body body) {
  float weights[kWeightGroup];
  for (size_t first = 0; first < logits.size(); first += kWeightGroup) {
    const size_t count = std::min(kWeightGroup, logits.size() - first);
    const float sum = kernels.exponentials(logits.data() + first, count, top, factor, weights);
    body(first, sum, std::span<const float>(weights, count));
  }
}

double sum_weights(const Kernels& kernels, Logits logits, float top, float factor) {
  double total = 0;
  for_groups(kernels, logits, top, factor, [&](size_t, float sum, auto) { total += double(sum); });
  return total;
}

float best_of(const Kernels& kernels, Logits logits) { return logits[find_best(kernels, logits)]; }

// The first place whose running sum passes `target`; the last that has a weight, where rounding finds none.
size_t find_above(std::span<const float> weights, double target) {
  double running = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] <= 0) continue;
    last = i;
    running += double(weights[i]);
    if (running > target) break;
  }
  return last;
}

// Candidates whose weights are to reach a sum.
struct Reach {
  Logits logits;
  float top;
  double wanted;

  // How many of the places, best first, are needed; 0 if all are not enough.
  size_t count(std::span<const int32_t> places, double reached) const {
    for (size_t i = 0; i < places.size(); ++i) {
      reached += double(std::exp(logits[size_t(places[i])] - top));
      if (reached >= wanted) return i + 1;
    }
    return 0;
  }

  size_t bucket(float logit) const {
    const float distance = (top - logit) * kBucketsPerUnit;
    return distance < float(kBuckets - 1) ? size_t(distance) : kBuckets - 1;
  }

  // The place of the last that is needed, best first. Sorts only the bucket in which the sum is reached.
  int32_t find_last(const Kernels& kernels, int32_t* places) const {
    double sums[kBuckets] = {};
    for_groups(kernels, logits, top, 1.0f, [&](size_t first, float, std::span<const float> weights) {
      for (size_t i = 0; i < weights.size(); ++i) sums[bucket(logits[first + i])] += double(weights[i]);
    });
    size_t last = 0;
    double before = 0, running = 0;
    for (size_t b = 0; b < kBuckets && running < wanted; ++b) {
      if (sums[b] <= 0) continue;
      last = b;
      before = running;
      running += sums[b];
    }
    const float least = last + 1 < kBuckets ? top - float(last + 2) / kBucketsPerUnit : -kInfinity;
    int32_t* const all = places + kernels.collect(logits.data(), logits.size(), least, 0, places);
    int32_t* const end = std::remove_if(places, all, [&](int32_t i) { return bucket(logits[size_t(i)]) != last; });
    if (places == end) return 0;  // only where numbers are NaN
    std::sort(places, end, better_in(logits));
    const std::span<const int32_t> sorted(places, end);
    const size_t needed = count(sorted, before);
    return needed ? sorted[needed - 1] : sorted.back();
  }
};

}  // namespace

size_t find_best(const Kernels& kernels, Logits logits) { return kernels.find_largest(logits.data(), logits.size()); }

size_t keep_largest(const Kernels& kernels, Logits logits, size_t count, int32_t* places) {
  const auto better = better_in(logits);
  Workspace work;
  const std::span<int32_t> kept = work.take<int32_t>(std::min(2 * count, logits.size()) + 2 * kChunk);
  size_t num_kept = 0;
  float least = -kInfinity;
  for (size_t first = 0; first < logits.size(); first += kChunk) {
    num_kept += kernels.collect(logits.data() + first, std::min(kChunk, logits.size() - first), least, first,
                                kept.data() + num_kept);
    if (num_kept <= count || num_kept + kChunk <= kept.size()) continue;
    std::nth_element(kept.begin(), kept.begin() + std::ptrdiff_t(count) - 1, kept.begin() + std::ptrdiff_t(num_kept),
                     better);
    num_kept = count;
    // Equal ones that come later lose, so only larger ones matter from here on.
    least = std::nextafter(logits[size_t(kept[count - 1])], kInfinity);
  }
  count = std::min(count, num_kept);
  std::partial_sort_copy(kept.begin(), kept.begin() + std::ptrdiff_t(num_kept), places, places + count, better);
  return count;
}

size_t keep_above(const Kernels& kernels, Logits logits, float least, int32_t* places) {
  return kernels.collect(logits.data(), logits.size(), least, 0, places);
}

size_t keep_reaching(const Kernels& kernels, Logits logits, double target, int32_t* places) {
  const float top = best_of(kernels, logits);
  const Reach reach{logits, top, target * sum_weights(kernels, logits, top, 1.0f)};
  const size_t few = keep_largest(kernels, logits, std::min(kFew, logits.size()), places);
  if (const size_t needed = reach.count({places, few}, 0)) {
    std::sort(places, places + needed);
    return needed;
  }
  const int32_t last = reach.find_last(kernels, places);
  const float least = logits[size_t(last)];
  int32_t* const end = places + keep_above(kernels, logits, least, places);
  return size_t(std::remove_if(places, end, [&](int32_t i) { return logits[size_t(i)] == least && i > last; }) -
                places);
}

double log_sum(const Kernels& kernels, Logits logits) {
  const float top = best_of(kernels, logits);
  return double(top) + std::log(sum_weights(kernels, logits, top, 1.0f));
}

size_t draw(const Kernels& kernels, Logits logits, float temperature, double uniform) {
  const float top = best_of(kernels, logits), factor = 1.0f / temperature;
  Workspace work;
  const std::span<float> sums = work.take<float>((logits.size() + kWeightGroup - 1) / kWeightGroup);
  double total = 0;
  for_groups(kernels, logits, top, factor, [&](size_t first, float sum, auto) {
    sums[first / kWeightGroup] = sum;
    total += double(sum);
  });
  // Two levels, so that no weight but one group's is kept.
  const size_t group = find_above(sums, uniform * total);
  double before = 0;
  for (size_t i = 0; i < group; ++i) before += double(sums[i]);
  float weights[kWeightGroup];
  const size_t first = group * kWeightGroup, count = std::min(kWeightGroup, logits.size() - first);
  kernels.exponentials(logits.data() + first, count, top, factor, weights);
  return first + find_above({weights, count}, uniform * total - before);
}

void penalise(std::span<float> logits, std::span<const int32_t> prompt, std::span<const int32_t> answer,
              const Penalties& penalties) {
  thread_local std::vector<uint32_t> counts;  // all zero between calls
  if (counts.size() < logits.size()) counts.resize(logits.size());
  const auto repeat = [&](std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
      float& logit = logits[size_t(id)];
      if (counts[size_t(id)]++ == 0) logit = logit > 0 ? logit / penalties.repetition : logit * penalties.repetition;
    }
  };
  const auto forget = [&](std::span<const int32_t> ids) {
    for (const int32_t id : ids) counts[size_t(id)] = 0;
  };
  if (penalties.repetition != 1.0f) {
    repeat(prompt);
    repeat(answer);
    forget(prompt);
    forget(answer);
  }
  if (penalties.presence == 0 && penalties.frequency == 0) return;
  for (const int32_t id : answer) ++counts[size_t(id)];
  for (const int32_t id : answer) {
    uint32_t& uses = counts[size_t(id)];
    if (uses) logits[size_t(id)] -= penalties.presence + penalties.frequency * float(uses);
    uses = 0;
  }
}

}  // namespace apportion
