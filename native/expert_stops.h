// Takes a run past the steps where experts come and go (program.h). Those that are here are applied first, each of the
// others as it comes to its shelf:
//
//   a single token, and its shelf has been told who may leave     pass
//   otherwise, once the caller knows what was chosen              begin ── apply .. apply ──► end
#pragma once

#include <span>
#include <vector>

#include "expert_shelf.h"
#include "program.h"

namespace apportion {

class ExpertStops {
 public:
  explicit ExpertStops(Program& program) : program_(program) {}

  // Another run begins.
  void reset();

  // Shelves are those of the experts that the program waits for; null where they are just put into their table.

  // All of the only token's experts are applied, if they are here or on their way without anybody's decision; nothing
  // has happened if somebody has to decide. Broken off: one does not come, or the run is not to go on.
  enum class Pass { done, undecided, broken_off };
  Pass pass(ExpertShelf* shelf);
  // Of each layer that was passed, or broken off at, since this was asked last: tell(its experts, how many of them were
  // here, who left for the others).
  template <class Tell>
  void tell_passed(Tell&& tell);

  void begin();
  bool has_begun() const { return has_begun_; }
  // These are here or on their way; of many tokens they are in the order of their numbers. False: broken off.
  bool apply(ExpertShelf* shelf, std::span<const uint32_t> experts);
  void end();

 private:
  struct Layer {
    size_t num_used, num_left, num_here;
  };

  void forget_passed();
  bool brings(ExpertShelf* shelf);
  bool take_what_comes(ExpertShelf& shelf);

  Program& program_;
  bool has_begun_ = false;
  std::vector<uint32_t> there_, coming_;
  std::vector<Layer> layers_;          // passed
  std::vector<uint32_t> used_, left_;  // of these, one layer after the other
};

template <class Tell>
void ExpertStops::tell_passed(Tell&& tell) {
  const uint32_t *used = used_.data(), *left = left_.data();
  for (const Layer& layer : layers_) {
    tell(std::span(used, layer.num_used), layer.num_here, std::span(left, layer.num_left));
    used += layer.num_used;
    left += layer.num_left;
  }
  forget_passed();
}

}  // namespace apportion
