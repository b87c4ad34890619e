// What Python gives for a weight, a cache or a choice, as the core's own types; what does not fit is refused.
#pragma once

#include "routing.h"
#include "views.h"

namespace apportion {

inline const Format& format_of(int ggml_type) {
  const Format* format = find_format(ggml_type);
  if (!format) refuse("no kernels for ggml type " + std::to_string(ggml_type));
  return *format;
}

inline constexpr int kInterleaved = 1 << 16, kSplit = 1 << 17;

inline int type_of(int storage) { return storage & ~(kInterleaved | kSplit); }

// The first of `count` matrices [rows, cols], which must fill the data exactly. `storage` is the ggml type, plus
// kInterleaved where rows are interleaved by 16, or kSplit where they are split.
inline Matrix matrix_of(const View& data, int storage, size_t count, size_t rows, size_t cols) {
  const bool interleaved = storage & kInterleaved, split = storage & kSplit;
  const Format& format = format_of(type_of(storage));
  require(!(interleaved || split) || rows % kPanelRows == 0, "interleaved rows must be a multiple of 16");
  require(!split || (!interleaved && count == 1 && format.id == FormatId::q8_0),
          "only one matrix of q8_0 can be split");
  if (cols % format.block_size)
    refuse("rows of " + std::to_string(cols) + " numbers are not whole blocks of " + format.name);
  const Matrix matrix{&format, data.contiguous().data<const uint8_t>(), rows, cols, interleaved, split};
  if (data.nbytes() != count * matrix.nbytes())
    refuse("the weight has " + std::to_string(data.nbytes()) + " bytes where its shape needs " +
           std::to_string(count * matrix.nbytes()));
  return matrix;
}

inline GateKind gate_kind(int kind) {
  require(kind >= 0 && kind <= 2, "no such gate");
  return GateKind(kind);
}

// How logits of E experts become a route.
inline Routing routing_of(size_t E, size_t top_k, int score, bool normalize, float scale, size_t num_groups,
                          size_t top_groups, bool top2_groups) {
  require(score >= 0 && score <= 2, "no such score");
  require(top_k >= 1 && top_k <= E, "top_k must be from 1 to the number of experts");
  require(num_groups >= 1 && E % num_groups == 0, "the experts do not divide into that many groups");
  require(top_groups >= 1 && top_groups <= num_groups, "top_groups must be from 1 to num_groups");
  require(top_groups * (E / num_groups) >= top_k, "the chosen groups hold fewer than top_k experts");
  return {top_k, Score(score), normalize, scale, num_groups, top_groups, top2_groups};
}

}  // namespace apportion
