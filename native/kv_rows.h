// Rows of keys or values in a page, read where they lie, and codes converted on the way (kv_codec.h).
#pragma once

#include <type_traits>

#include "kernels.h"
#include "wide.h"

namespace apportion::APPORTION_ISA {

// Rows of a page; `width` numbers from row to row. `kRun` numbers lie together.
template <class Number>
struct Rows {
  using Row = const Number*;
  static constexpr size_t kRun = 8;
  static constexpr bool kScaled = false, kOffset = false, kNibbles = false;

  Rows(const uint8_t* rows, size_t width) : first(reinterpret_cast<const Number*>(rows)), stride(width) {}

  Row row(size_t place) const { return first + place * stride; }
  static size_t nbytes(size_t numbers) { return numbers * sizeof(Number); }

  Row first;
  size_t stride;
};

struct F32Rows : Rows<float> {
  using Rows::Rows;
  template <class V = F8>
  static V load(Row row, size_t d, size_t h = 0) {
    return V::load(row + d + h);
  }
  static F8 load_few(Row row, size_t d, size_t count) { return load_some(row + d, count); }
};

struct F16Rows : Rows<uint16_t> {
  using Rows::Rows;
  template <class V = F8>
  static V load(Row row, size_t d, size_t h = 0) {
    return V::load_half(row + d + h);
  }
  static F8 load_few(Row row, size_t d, size_t count) { return load_half_some(row + d, count); }
};

struct Bf16Rows : Rows<uint16_t> {
  using Rows::Rows;
  template <class V = F8>
  static V load(Row row, size_t d, size_t h = 0) {
    return V::load_bf16(row + d + h);
  }
  static F8 load_few(Row row, size_t d, size_t count) { return load_bf16_some(row + d, count); }
};

struct Q8Rows : Rows<int8_t> {
  using Rows::Rows;
  static constexpr bool kScaled = true;
  template <class V = F8>
  static V load(Row row, size_t d, size_t h = 0) {
    return V::load_bytes(row + d + h);
  }
  static F8 load_few(Row row, size_t d, size_t count) { return load_bytes_some(row + d, count); }
};

// Rows are whole groups: what fills up the last one meets zeros of the query, or sums that nobody reads.
struct Q4Rows : Rows<uint8_t> {
  static constexpr size_t kRun = kNibbleGroup;
  static constexpr bool kScaled = true, kOffset = true, kNibbles = true;

  Q4Rows(const uint8_t* rows, size_t width) : Rows(rows, nbytes(round_up(width, kNibbleGroup))) {}
  // Of the group that begins with number d: all numbers, its first eight, or with h = 8 its last.
  template <class V = F8>
  static V load(Row row, size_t d, size_t h) {
    if constexpr (V::kLanes == kNibbleGroup)
      return V::load_nibbles(row + d / 2);
    else
      return h ? V::load_upper(row + d / 2) : V::load_lower(row + d / 2);
  }
  static F8 load(Row row, size_t d) { return load(row, d / kNibbleGroup * kNibbleGroup, d % kNibbleGroup); }
  static F8 load_few(Row row, size_t d, size_t) { return load(row, d); }
  static size_t nbytes(size_t numbers) { return numbers / 2; }
};

// Calls body(Rows, begin, end) for runs of a block's pages in one codec, as far as they hold places that are seen.
template <class Body>
void for_runs(const KvPage* pages, size_t begin, size_t last, Body&& body) {
  for (size_t end; begin < last; begin = end) {
    for (end = begin + 1; end < last && pages[end].codec == pages[begin].codec;) ++end;
    switch (pages[begin].codec) {
      case KvCodec::f32: body(std::type_identity<F32Rows>(), begin, end); break;
      case KvCodec::f16: body(std::type_identity<F16Rows>(), begin, end); break;
      case KvCodec::bf16: body(std::type_identity<Bf16Rows>(), begin, end); break;
      case KvCodec::q8: body(std::type_identity<Q8Rows>(), begin, end); break;
      case KvCodec::q4: body(std::type_identity<Q4Rows>(), begin, end); break;
    }
  }
}

}  // namespace apportion::APPORTION_ISA
