// From one row of logits to one token: the steps that look at a whole vocabulary.
#pragma once

#include <span>

#include "kernels.h"

namespace apportion {

using Logits = std::span<const float>;

// The place of the largest number, of equal ones the first; that of the first NaN, if there is one.
size_t find_best(const Kernels& kernels, Logits logits);

// Places of the `count` largest, best first, of equal ones the lower place first. Returns how many, fewer only if
// numbers are NaN.
size_t keep_largest(const Kernels& kernels, Logits logits, size_t count, int32_t* places);

// Places of those that are at least `least`, in order; returns how many.
size_t keep_above(const Kernels& kernels, Logits logits, float least, int32_t* places);

// Places, in order, of the fewest whose probabilities reach `target`, of equal ones the lower; returns how many.
size_t keep_reaching(const Kernels& kernels, Logits logits, double target, int32_t* places);

// log of the sum of e^logit.
double log_sum(const Kernels& kernels, Logits logits);

// A place drawn in proportion to e^(logit / temperature), by inverting the running sum at `uniform` in [0, 1). One that
// has no weight is never drawn. The best logit must be finite.
size_t draw(const Kernels& kernels, Logits logits, float temperature, double uniform);

struct Penalties {
  float repetition;           // divides positive and multiplies negative logits of all tokens seen
  float presence, frequency;  // taken from those of the answer: once, and per occurrence
};

// Changes the logits of tokens that stand in the prompt or the answer; ids must lie inside.
void penalise(std::span<float> logits, std::span<const int32_t> prompt, std::span<const int32_t> answer,
              const Penalties& penalties);

}  // namespace apportion
