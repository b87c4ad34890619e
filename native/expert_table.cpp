#include "expert_table.h"

#include "arrange.h"

namespace apportion {

void ExpertTable::put(size_t expert, const std::array<uint8_t*, 3>& data) {
  for (size_t i = 0; i < 3; ++i) {
    const Matrix& matrix = matrices_[i].matrix;
    if (matrices_[i].arrange)
      interleave_in_place(*matrix.format, data[i], matrix.rows, matrix.format->row_nbytes(matrix.cols), threads_);
  }
  places_[expert] = {data[0], data[1], data[2]};
}

}  // namespace apportion
