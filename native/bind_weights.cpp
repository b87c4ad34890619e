#include "bind_weights.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <vector>

#include "arguments.h"
#include "arrange.h"
#include "embed.h"
#include "pages.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

void dequantize(int storage, nb::handle data_, nb::handle out_) {
  const View data(data_, "data", kByte), out(out_, "out", kFloat, Access::write);
  out.of_ndim(2).contiguous();
  const Matrix matrix = matrix_of(data, storage, 1, out.dim(0), out.dim(1));
  Unlocked unlocked;
  const size_t row_nbytes = matrix.format->row_nbytes(matrix.cols),
               num_blocks = matrix.cols / matrix.format->block_size;
  std::vector<uint8_t> own(row_nbytes);
  for (size_t i = 0; i < matrix.rows; ++i) {
    const uint8_t* row = matrix.data + i * row_nbytes;
    if (matrix.interleaved) {
      take_row(*matrix.format, row - i % kPanelRows * row_nbytes, i % kPanelRows, num_blocks, own.data());
      row = own.data();
    }
    decode_row(*matrix.format, row, matrix.cols, out.data<float>() + i * matrix.cols);
  }
}

// Rearranges [rows, row bytes] in their place, 16 rows at a time.
void interleave_rows(int ggml_type, nb::handle data_, unsigned threads) {
  const View data(data_, "data", kByte, Access::write);
  data.of_ndim(2).contiguous();
  const Format& format = format_of(ggml_type);
  const size_t rows = data.dim(0), row_nbytes = data.dim(1);
  require(rows % kPanelRows == 0, "rows must be a multiple of 16");
  require(row_nbytes % format.block_nbytes == 0, "rows must be whole blocks");
  Unlocked unlocked;
  interleave_in_place(format, data.data<uint8_t>(), rows, row_nbytes, threads);
}

nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> allocate(size_t nbytes) {
  Pages pages = allocate_pages(nbytes);
  const nb::capsule owner(pages.get(), [](void* p) noexcept { FreePages()(static_cast<uint8_t*>(p)); });
  return {pages.release(), {nbytes}, owner};
}

}  // namespace

void bind_weights(nb::module_& m) {
  m.attr("INTERLEAVED") = kInterleaved;
  m.attr("PANEL_ROWS") = int(kPanelRows);
  m.def("allocate", &allocate, nb::arg("nbytes"),
        "Uninitialized bytes, aligned to cache lines, in huge pages where the system gives them.");
  m.def("dequantize", &dequantize, nb::arg("storage"), nb::arg("data"), nb::arg("out"),
        "Decode rows of blocks into out [rows, cols] float32.");
  m.def("interleave_rows", &interleave_rows, nb::arg("ggml_type"), nb::arg("data"), nb::arg("threads") = 1,
        "Rearrange rows [rows, row bytes] into panels of 16, in their place.");
}

}  // namespace apportion
