// How numbers are stored in a head page (kv_pages.h): rows of keys, then rows of values, each row by itself; then what
// scales them, an f16 number of each kind for each row:
//
//   keys [32] | values [32] | scales of the keys [32] | offsets | scales of the values [32] | offsets
//
// number = scale * code + offset. See kernels/kv_codec.py.
#pragma once

#include <cstddef>
#include <cstdint>

namespace apportion {

inline constexpr size_t kPageTokens = 32;
inline constexpr uint32_t kAllLive = 0xffffffff;

// The files in kernels/kv_codecs/ know their numbers. q4 has two numbers in each byte, 16 in 8: 0 .. 7 are the bytes'
// lower halves, 8 .. 15 the upper ones.
enum class KvCodec : uint8_t { f32, f16, bf16, q8, q4 };
inline constexpr size_t kNumKvCodecs = 5;
inline constexpr size_t kNibbleGroup = 16;

// Bytes of a row of `width` numbers.
constexpr size_t kv_row_nbytes(KvCodec codec, size_t width) {
  switch (codec) {
    case KvCodec::f32: return 4 * width;
    case KvCodec::f16:
    case KvCodec::bf16: return 2 * width;
    case KvCodec::q8: return width;
    case KvCodec::q4: return (width + kNibbleGroup - 1) / kNibbleGroup * (kNibbleGroup / 2);
  }
  return 0;
}

// f16 numbers beside a row.
constexpr size_t kv_num_scales(KvCodec codec) { return codec == KvCodec::q4 ? 2 : codec == KvCodec::q8 ? 1 : 0; }

// Where a row is, with its scale and offset; null where the codec has none.
struct KvRow {
  KvCodec codec;
  uint8_t* codes;
  uint16_t *scale, *offset;
};

// The page of one head: its rows, and a bit for each that tells whether it is live. Dead rows are passed over.
struct KvPage {
  uint8_t *keys, *values;
  uint16_t *key_scales, *value_scales;  // [kv_num_scales][32]
  uint32_t live;
  KvCodec codec;

  KvRow key_row(size_t place, size_t width) const { return row(keys, key_scales, place, width); }
  KvRow value_row(size_t place, size_t width) const { return row(values, value_scales, place, width); }

 private:
  KvRow row(uint8_t* rows, uint16_t* scales, size_t place, size_t width) const {
    const size_t count = kv_num_scales(codec);
    return {codec, rows + place * kv_row_nbytes(codec, width), count > 0 ? scales + place : nullptr,
            count > 1 ? scales + kPageTokens + place : nullptr};
  }
};

}  // namespace apportion
