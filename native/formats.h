// The block formats' layouts in memory, as llama.cpp's GGUF files store them, and what each needs of the kernels.
//
// A super-block format (256 numbers) keeps one half-precision scale, and integer scales for runs of 16 or 32:
//
//   q4_k: | d | dmin | 12 bytes: 8 scales and 8 minimums of 6 bits | 128 bytes: 256 codes of 4 bits |
//   q6_k: | 128 bytes: low 4 bits | 64 bytes: high 2 bits | 16 scales of 8 bits | d |
#pragma once

#include <cstddef>
#include <cstdint>

namespace apportion {

// clang-format off: tables read better with a row per line
#pragma pack(push, 1)
struct BlockQ8_0 { uint16_t d; int8_t codes[32]; };
struct BlockQ4_0 { uint16_t d; uint8_t nibbles[16]; };
struct BlockQ4_1 { uint16_t d, m; uint8_t nibbles[16]; };
struct BlockQ5_0 { uint16_t d; uint32_t high; uint8_t nibbles[16]; };
struct BlockQ5_1 { uint16_t d, m; uint32_t high; uint8_t nibbles[16]; };
struct BlockIq4Nl { uint16_t d; uint8_t nibbles[16]; };
struct BlockMxfp4 { uint8_t exponent; uint8_t nibbles[16]; };
struct BlockQ2K { uint8_t scales[16]; uint8_t codes[64]; uint16_t d, dmin; };
struct BlockQ3K { uint8_t high[32]; uint8_t codes[64]; uint8_t scales[12]; uint16_t d; };
struct BlockQ4K { uint16_t d, dmin; uint8_t scales[12]; uint8_t nibbles[128]; };
struct BlockQ5K { uint16_t d, dmin; uint8_t scales[12]; uint8_t high[32]; uint8_t nibbles[128]; };
struct BlockQ6K { uint8_t low[128]; uint8_t high[64]; int8_t scales[16]; uint16_t d; };
struct BlockIq4Xs { uint16_t d, scales_high; uint8_t scales_low[4]; uint8_t nibbles[128]; };
#pragma pack(pop)
// clang-format on

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockIq4Nl) == 18);
static_assert(sizeof(BlockMxfp4) == 17 && sizeof(BlockQ2K) == 84 && sizeof(BlockQ3K) == 110);
static_assert(sizeof(BlockQ4K) == 144 && sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210);
static_assert(sizeof(BlockIq4Xs) == 136);

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice the E2M1 numbers, so that they are integers; the block's scale is halved instead.
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Which arithmetic a format's numbers go through.
enum class Arithmetic : uint8_t {
  floats,     // f32, f16, bf16: float activations
  unsigned4,  // codes 0..15, a scale and a minimum per 32
  unsigned5,  // codes 0..31, a scale and a minimum per 32
  unsigned3,  // codes 0..7, an integer scale and a minimum per 16
  unsigned6,  // codes 0..63, an integer scale and a minimum per 16
  signed8,    // codes -128..127, a scale per 32
};

// clang-format off
enum class FormatId : uint8_t {
  f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4, count,
};
// clang-format on
inline constexpr size_t kNumFormats = size_t(FormatId::count);

struct Format {
  const char* name;
  FormatId id;
  int ggml_type;
  size_t block_size, block_nbytes;
  Arithmetic arithmetic;

  size_t row_nbytes(size_t num_cols) const { return num_cols / block_size * block_nbytes; }
};

// nullptr for a type that the kernels do not compute on.
const Format* find_format(int ggml_type);
const Format* find_format(const char* name);

}  // namespace apportion
