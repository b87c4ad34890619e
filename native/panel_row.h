// What a panel gives for one token: sixteen numbers that stay in registers, whatever vectors the processor has.
#pragma once

#include <cstring>
#include <type_traits>

#include "layout.h"

namespace apportion {

// Calls f(number of rows), with a constant where it is a whole panel's.
template <class F>
inline void with_rows(size_t num_rows, F&& f) {
  if (num_rows == kPanelRows) return f(std::integral_constant<size_t, kPanelRows>());
  f(num_rows);
}

class PanelRow {
 public:
  // Zero past the first `count`, which is as `with_rows` tells.
  template <class Count>
  static PanelRow load(const float* p, Count count) {
    PanelRow row;
    if constexpr (kIsWhole<Count>) {
      for (Four& four : row.fours_) std::memcpy(&four, p, sizeof four), p += 4;
    } else {
      row = {};
      std::memcpy(row.fours_, p, count * sizeof(float));
    }
    return row;
  }
  template <class Count>
  void store(float* p, Count count) const {
    if constexpr (kIsWhole<Count>)
      for (const Four& four : fours_) std::memcpy(p, &four, sizeof four), p += 4;
    else
      std::memcpy(p, fours_, count * sizeof(float));
  }

  friend PanelRow operator+(PanelRow a, const PanelRow& b) {
    for (size_t i = 0; i < kPanelRows / 4; ++i) a.fours_[i] += b.fours_[i];
    return a;
  }
  friend PanelRow operator*(float x, PanelRow a) {
    for (Four& four : a.fours_) four *= x;
    return a;
  }

 private:
  using Four = float __attribute__((vector_size(16)));

  template <class Count>
  static constexpr bool kIsWhole = !std::is_same_v<Count, size_t>;

  Four fours_[kPanelRows / 4];
};

}  // namespace apportion
