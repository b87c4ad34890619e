#include "bind_sampling.h"

#include <nanobind/stl/string.h>

#include "cpu.h"
#include "sample.h"
#include "unlocked.h"
#include "views.h"

namespace nb = nanobind;

namespace apportion {

namespace {

Logits logits_of(const View& view) {
  view.of_ndim(1).contiguous();
  require(view.size() > 0, "there are no logits");
  return {view.data<const float>(), view.size()};
}

std::span<const int32_t> ids_of(const View& view, size_t vocab_size) {
  const std::span<const int32_t> ids(view.of_ndim(1).contiguous().data<const int32_t>(), view.size());
  for (const int32_t id : ids)
    if (id < 0 || size_t(id) >= vocab_size)
      refuse("id " + std::to_string(id) + " is outside a vocabulary of " + std::to_string(vocab_size));
  return ids;
}

// Room for as many places as there are logits, unless told.
int32_t* places_of(const View& view, size_t room) {
  view.of_ndim(1).contiguous();
  require(view.size() >= room, "there is no room for the places");
  return view.data<int32_t>();
}

const Kernels& kernels_of(const std::string& isa) {
  const Kernels* kernels = find_kernels(isa);
  if (!kernels) refuse("instruction set " + isa + " is unknown or not available here");
  return *kernels;
}

size_t best_logit(const std::string& isa, nb::handle logits_) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat);
  const Logits logits = logits_of(view);
  Unlocked unlocked;
  return find_best(kernels, logits);
}

size_t largest_logits(const std::string& isa, nb::handle logits_, size_t count, nb::handle out_) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
  const Logits logits = logits_of(view);
  require(count >= 1 && count <= logits.size(), "count must be from 1 to the number of logits");
  int32_t* places = places_of(out, count);
  Unlocked unlocked;
  return keep_largest(kernels, logits, count, places);
}

size_t logits_above(const std::string& isa, nb::handle logits_, float least, nb::handle out_) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
  const Logits logits = logits_of(view);
  int32_t* places = places_of(out, logits.size());
  Unlocked unlocked;
  return keep_above(kernels, logits, least, places);
}

size_t logits_reaching(const std::string& isa, nb::handle logits_, double target, nb::handle out_) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
  const Logits logits = logits_of(view);
  int32_t* places = places_of(out, logits.size());
  Unlocked unlocked;
  return keep_reaching(kernels, logits, target, places);
}

double log_sum_logits(const std::string& isa, nb::handle logits_) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat);
  const Logits logits = logits_of(view);
  Unlocked unlocked;
  return log_sum(kernels, logits);
}

size_t draw_logit(const std::string& isa, nb::handle logits_, float temperature, double uniform) {
  const Kernels& kernels = kernels_of(isa);
  const View view(logits_, "logits", kFloat);
  const Logits logits = logits_of(view);
  require(temperature > 0, "temperature must be above 0");
  require(uniform >= 0 && uniform < 1, "uniform must be in [0, 1)");
  Unlocked unlocked;
  return draw(kernels, logits, temperature, uniform);
}

void penalise_logits(nb::handle logits_, nb::handle prompt_, nb::handle answer_, float repetition, float presence,
                     float frequency) {
  const View view(logits_, "logits", kFloat, Access::write), prompt(prompt_, "prompt", kInt),
      answer(answer_, "answer", kInt);
  view.of_ndim(1).contiguous();
  const std::span<float> logits(view.data<float>(), view.size());
  const auto before = ids_of(prompt, logits.size()), after = ids_of(answer, logits.size());
  Unlocked unlocked;
  penalise(logits, before, after, {repetition, presence, frequency});
}

}  // namespace

// The steps of kernels/sampling.py that look at a whole vocabulary.
void bind_sampling(nb::module_& m) {
  m.def("best_logit", &best_logit);
  m.def("largest_logits", &largest_logits);
  m.def("logits_above", &logits_above);
  m.def("logits_reaching", &logits_reaching);
  m.def("log_sum_logits", &log_sum_logits);
  m.def("draw_logit", &draw_logit);
  m.def("penalise_logits", &penalise_logits);
}

}  // namespace apportion
