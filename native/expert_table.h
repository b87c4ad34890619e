// Where a layer's experts are, for Python to say and for programs to read.
#pragma once

#include <array>
#include <vector>

#include "arguments.h"
#include "experts.h"

namespace apportion {

class ExpertShelf;

// The gate, up or down matrix of every expert of a layer. `arrange`: rows have to be interleaved when they come.
struct ExpertMatrix {
  Matrix matrix;  // without data
  bool arrange;
};

class ExpertTable {
 public:
  using Matrices = std::array<ExpertMatrix, 3>;  // gate, up, down

  ExpertTable(size_t count, const Matrices& matrices, unsigned threads)
      : matrices_(matrices), places_(count), threads_(threads) {}

  size_t count() const { return places_.size(); }
  const ExpertPlace* places() const { return places_.data(); }
  const Matrix& matrix(size_t which) const { return matrices_[which].matrix; }

  // Who brings the experts; null where they are just put here.
  ExpertShelf* shelf() const { return shelf_; }
  void set_shelf(ExpertShelf* shelf) { shelf_ = shelf; }

  // The expert's matrices have been read to these places.
  void put(size_t expert, const std::array<uint8_t*, 3>& data);
  void clear(size_t expert) { places_[expert] = {}; }

 private:
  Matrices matrices_;
  std::vector<ExpertPlace> places_;  // never moves: programs hold its address
  unsigned threads_;
  ExpertShelf* shelf_ = nullptr;
};

}  // namespace apportion
