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

class Sampling {
 public:
  explicit Sampling(const std::string& isa) : kernels_(find_kernels(isa)) {
    if (!kernels_) refuse("instruction set " + isa + " is unknown or not available here");
  }

  size_t best(nb::handle logits_) const {
    const View view(logits_, "logits", kFloat);
    const Logits logits = logits_of(view);
    Unlocked unlocked;
    return find_best(*kernels_, logits);
  }

  size_t largest(nb::handle logits_, size_t count, nb::handle out_) const {
    const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
    const Logits logits = logits_of(view);
    require(count >= 1 && count <= logits.size(), "count must be from 1 to the number of logits");
    int32_t* places = places_of(out, count);
    Unlocked unlocked;
    return keep_largest(*kernels_, logits, count, places);
  }

  size_t above(nb::handle logits_, float least, nb::handle out_) const {
    const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
    const Logits logits = logits_of(view);
    int32_t* places = places_of(out, logits.size());
    Unlocked unlocked;
    return keep_above(*kernels_, logits, least, places);
  }

  size_t reaching(nb::handle logits_, double target, nb::handle out_) const {
    const View view(logits_, "logits", kFloat), out(out_, "out", kInt, Access::write);
    const Logits logits = logits_of(view);
    int32_t* places = places_of(out, logits.size());
    Unlocked unlocked;
    return keep_reaching(*kernels_, logits, target, places);
  }

  double log_sum(nb::handle logits_) const {
    const View view(logits_, "logits", kFloat);
    const Logits logits = logits_of(view);
    Unlocked unlocked;
    return apportion::log_sum(*kernels_, logits);
  }

  size_t draw(nb::handle logits_, float temperature, double uniform) const {
    const View view(logits_, "logits", kFloat);
    const Logits logits = logits_of(view);
    require(temperature > 0, "temperature must be above 0");
    require(uniform >= 0 && uniform < 1, "uniform must be in [0, 1)");
    Unlocked unlocked;
    return apportion::draw(*kernels_, logits, temperature, uniform);
  }

  void penalise(nb::handle logits_, nb::handle prompt_, nb::handle answer_, float repetition, float presence,
                float frequency) const {
    const View view(logits_, "logits", kFloat, Access::write), prompt(prompt_, "prompt", kInt),
        answer(answer_, "answer", kInt);
    view.of_ndim(1).contiguous();
    const std::span<float> logits(view.data<float>(), view.size());
    const auto before = ids_of(prompt, logits.size()), after = ids_of(answer, logits.size());
    Unlocked unlocked;
    apportion::penalise(logits, before, after, {repetition, presence, frequency});
  }

 private:
  const Kernels* kernels_;
};

}  // namespace

void bind_sampling(nb::module_& m) {
  nb::class_<Sampling>(m, "Sampling", "The steps of kernels/sampling.py that look at a whole vocabulary.")
      .def(nb::init<const std::string&>(), nb::arg("isa"))
      .def("best", &Sampling::best)
      .def("largest", &Sampling::largest)
      .def("above", &Sampling::above)
      .def("reaching", &Sampling::reaching)
      .def("log_sum", &Sampling::log_sum)
      .def("draw", &Sampling::draw)
      .def("penalise", &Sampling::penalise);
}

}  // namespace apportion
