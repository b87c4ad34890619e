// What is computed differently for each instruction set, behind one table of function pointers.
//
// Products go by panels of 16 rows (layout.h): vector lanes are rows. Each lane adds up its own row's numbers in order,
// so nothing is ever reduced across lanes, and a token's result does not depend on which other tokens are computed
// beside it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kv_codec.h"
#include "layout.h"

namespace apportion {

inline constexpr size_t kGroup = 32;  // numbers that share an activation scale

// Columns first .. first + count - 1 of a panel or of two, whole blocks.
struct Run {
  const Format* format;
  const uint8_t* panel;  // column `first`
  size_t first, count;
  size_t num_panels = 1, stride = 0;  // how many, and the bytes from one to the next
  const uint8_t* next = nullptr;      // the panels that are multiplied after these; null: those that follow

  size_t nbytes(size_t num_cols) const { return kPanelRows * format->row_nbytes(num_cols); }
  Run only(size_t p) const { return {format, panel + p * stride, first, count, 1, stride}; }
};

// How a token's activations are stored for a product.
enum class Activations : uint8_t {
  floats,   // as they are
  bytes32,  // groups of int8 codes, with the sum of all
  bytes16,  // groups of int8 codes, with the sums of both halves, each at most 1,016
  pairs,    // groups of 13-bit codes as int16 in the order k, k + 2, k + 1, k + 3
  raised,   // the codes of pairs as two of int8, with what products with upper parts (split.h) may lack
};

// What products need of a group is read in one place: a processor has few registers for addresses.
struct ByteCodes32 {
  int8_t codes[kGroup];
  float scale;
  int32_t sums[1];
};
struct ByteCodes16 {
  int8_t codes[kGroup];
  float scale;
  int16_t sums[2];
};
struct PairCodes {
  int16_t codes[kGroup];
  float scale;
};
struct RaisedCodes {
  int8_t codes[kGroup], fine[kGroup];  // 64 * code + fine, in order
  float scale;
  int32_t above;
};

constexpr size_t group_nbytes(Activations kind) {
  if (kind == Activations::floats) return kGroup * sizeof(float);
  if (kind == Activations::pairs) return sizeof(PairCodes);
  if (kind == Activations::raised) return sizeof(RaisedCodes);
  return kind == Activations::bytes16 ? sizeof(ByteCodes16) : sizeof(ByteCodes32);
}

// The largest of a token's numbers, where it stays a float beside bytes, so that it does not coarsen the others of its
// group; its own code is zero.
struct Outlier {
  size_t column = SIZE_MAX;  // none
  float value = 0.0f;
};

struct Token {
  const void* numbers;  // float [K], or groups of codes [K / 32]
  Outlier outlier = {};
};

// One token's product with one panel: sums[row] += token . row.
struct Pass {
  const uint8_t* panel;
  const Token* token;
  float* sums;
};

// Panels that a thread reads in turn, at most: two places are foreseen and served faster than one, and beside other
// threads faster than four.
inline constexpr size_t kSideBySide = 2;

// Queries that read the keys and values of one head. Places are as that head counts them.
struct AttendTile {
  const float* q;  // row r is token r / num_heads, head r % num_heads
  size_t q_token_stride, q_head_stride;
  size_t num_rows, num_heads;
  size_t first_place;  // of the tile's first token
  size_t key_width, value_width;
  bool joint;     // values are the first numbers of the keys
  size_t window;  // 0: none
  float scale, softcap;
  bool exact;  // queries are not rounded
};

inline constexpr size_t kAttendBlock = 128;  // places that give one partial result
inline constexpr size_t kAttendPages = kAttendBlock / kPageTokens;

// A softmax-weighted sum over some places: `sum` and `values` [rows][value_size rounded up to 8] are relative to
// exp(top). Where a row sees none of them, `sum` is 0 and `values` are undefined.
struct Partial {
  float* top;
  float* sum;
  float* values;
};

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

enum class GateKind : uint8_t { silu, gelu_tanh, swiglu_oai };
enum class PeakKind : uint8_t { int8, int16, f32, bf16 };

struct SplitPanel;

struct Kernels {
  const char* isa;

  // sums[panel][t][row] += token t . row, over the run's columns.
  void (*multiply)(const Run& run, const Token* tokens, size_t num_tokens, float* sums);
  // The same for panels that each have one token, at most kSideBySide of them.
  void (*multiply_side_by_side)(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes);
  // The same with float activations, for formats of codes.
  void (*multiply_exactly)(const Run& run, const Token* tokens, size_t num_tokens, float* sums);
  // sums[panel][t][row] += what is not below token t . row, for the upper parts (split.h) of panels, `stride` bytes
  // from one to the next, and raised tokens. Where scales are not negative, rounding included.
  void (*multiply_upper)(const Run& run, const Token* tokens, size_t num_tokens, float* sums);
  // The same as multiply, for panels in two parts and tokens in pairs.
  void (*multiply_split)(const SplitPanel& first, size_t num_panels, size_t num_cols, const Token* tokens,
                         size_t num_tokens, float* sums);
  void (*split_panel)(const uint8_t* panel, size_t num_blocks, uint8_t* upper, uint8_t* lower);
  void (*join_panel)(const uint8_t* upper, const uint8_t* lower, size_t num_blocks, uint8_t* panel);
  // Returns the token's outlier where it is to stay apart; pairs need none.
  Outlier (*quantize)(const float* x, size_t num_cols, Activations kind, bool apart, void* groups);

  void (*rms_norm)(const float* x, const float* weight, size_t width, float eps, float* out);
  void (*gate)(const float* gate, const float* up, size_t count, GateKind kind, float* out);
  // Turns pairs of x in place by angles [2][num_pairs], cosines and sines; pairs as in rope.h.
  void (*rotate_head)(const float* angles, size_t num_pairs, bool interleaved, float* x);
  // x = scale * x, then cap * tanh(x / cap) if cap > 0.
  void (*bound)(float* x, size_t count, float scale, float cap);
  void (*to_half)(const float* x, size_t count, uint16_t* out);
  // A row of keys or values to its codes and back.
  void (*encode_row)(const float* x, size_t width, const KvRow& row);
  void (*decode_row)(const KvRow& row, size_t width, float* out);

  // Floats of scratch that attend_block needs for a tile of so many rows.
  size_t (*attend_scratch)(size_t num_rows, size_t key_width, size_t value_width);
  // Attention of the tile over the places of one block: kAttendBlock * block and on. `pages` are the block's, and where
  // the tile sees none of one, any page; `ahead`, of which memory may be asked for the keys, what is read after them.
  void (*attend_block)(const AttendTile& tile, size_t block, const KvPage* pages, const KvPage* ahead, float* scratch,
                       const Partial& out);
  // total = total and part together, both relative to the larger maximum.
  void (*merge)(const Partial& total, const Partial& part, size_t num_rows, size_t width);

  // Over a vocabulary, see sample.h: the first place of the largest number, or of the first NaN; the places, counted
  // from `first`, of numbers that are at least `least`; e^((x - top) * factor) and the sum of it.
  size_t (*find_largest)(const float* x, size_t count);
  size_t (*collect)(const float* x, size_t count, float least, size_t first, int32_t* places);
  float (*exponentials)(const float* x, size_t count, float top, float factor, float* out);

  // The sum of the 64-bit words of `nbytes` (a multiple of 512): as little work as reading can be.
  uint64_t (*sum_words)(const unsigned char* p, size_t nbytes);
  // Rounds of multiply-adds in registers; returns how many multiply-adds that were.
  uint64_t (*multiply_adds)(PeakKind kind, size_t rounds);
};

// The tables, some of them only in builds for their kind of processor.
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace neon_dot {
extern const Kernels kernels;
}
namespace neon {
extern const Kernels kernels;
}
namespace portable {
extern const Kernels kernels;
}

}  // namespace apportion
