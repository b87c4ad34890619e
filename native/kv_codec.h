// How numbers are stored in a head page (kv_pages.h): rows of keys, then rows of values, each row by itself.
#pragma once

#include <cstddef>
#include <cstdint>

namespace apportion {

inline constexpr size_t kPageTokens = 32;
inline constexpr uint32_t kAllLive = 0xffffffff;

// kernels/kv.py knows them by name, in this order.
enum class KvCodec : uint8_t { f32, f16 };
inline constexpr size_t kNumKvCodecs = 2;

// Bytes of a row of `width` numbers.
constexpr size_t kv_row_nbytes(KvCodec codec, size_t width) { return codec == KvCodec::f32 ? 4 * width : 2 * width; }

// The page of one head: its rows, and a bit for each that tells whether it is live. Dead rows are passed over.
struct KvPage {
  uint8_t *keys, *values;
  uint32_t live;
  KvCodec codec;
};

}  // namespace apportion
