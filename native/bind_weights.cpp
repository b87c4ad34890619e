#include "bind_weights.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <vector>

#include "arguments.h"
#include "arrange.h"
#include "embed.h"
#include "pages.h"
#include "split.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

void dequantize(int storage, nb::handle data_, nb::handle out_) {
  const View data(data_, "data", kByte), out(out_, "out", kFloat, Access::write);
  out.of_ndim(2).contiguous();
  const Matrix matrix = matrix_of(data, storage, 1, out.dim(0), out.dim(1));
  Unlocked unlocked;
  std::vector<uint8_t> room(matrix.format->row_nbytes(matrix.cols));
  for (size_t i = 0; i < matrix.rows; ++i)
    decode_row(*matrix.format, find_row(matrix, i, room.data()), matrix.cols, out.data<float>() + i * matrix.cols);
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

// Splits panels of q8_0 [rows, row bytes] in their place, where no scale is negative; says whether it did.
bool split_panels(nb::handle data_, size_t cols, unsigned threads) {
  const View data(data_, "data", kByte, Access::write);
  data.of_ndim(2).contiguous();
  const Format& format = *find_format("q8_0");
  require(data.dim(0) % kPanelRows == 0, "rows must be a multiple of 16");
  require(data.dim(1) == format.row_nbytes(cols), "rows must be as wide as the columns need");
  Unlocked unlocked;
  return split_in_place(data.data<uint8_t>(), data.dim(0), cols, threads);
}

nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> allocate(size_t nbytes) {
  Pages pages = allocate_pages(nbytes);
  const nb::capsule owner(pages.get(), [](void* p) noexcept { FreePages()(static_cast<uint8_t*>(p)); });
  return {pages.release(), {nbytes}, owner};
}

}  // namespace

void bind_weights(nb::module_& m) {
  m.attr("INTERLEAVED") = kInterleaved;
  m.attr("SPLIT") = kSplit;
  m.attr("LOWER_NBYTES") = int(kLowerNbytes / kPanelRows);
  m.attr("PANEL_ROWS") = int(kPanelRows);
  m.def("allocate", &allocate, nb::arg("nbytes"),
        "Uninitialized bytes, aligned to cache lines, in huge pages where the system gives them.");
  m.def("dequantize", &dequantize, nb::arg("storage"), nb::arg("data"), nb::arg("out"),
        "Decode rows of blocks into out [rows, cols] float32.");
  m.def("interleave_rows", &interleave_rows, nb::arg("ggml_type"), nb::arg("data"), nb::arg("threads") = 1,
        "Rearrange rows [rows, row bytes] into panels of 16, in their place.");
  m.def("split_panels", &split_panels, nb::arg("data"), nb::arg("cols"), nb::arg("threads") = 1,
        "Part the codes of panels of q8_0 [rows, row bytes] into upper and lower bits, in their place; False, with "
        "nothing changed, where a scale is negative.");
}

}  // namespace apportion
