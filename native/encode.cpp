// Rows of keys and values to codes, bit for bit as kernels/kv_codecs/ has it, and back.
#include <limits>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr uint16_t kNoNumber = 0x7e00;  // the scale of a row with a number that is not finite

F8 load_up_to(const float* x, size_t count) { return count >= 8 ? F8::load(x) : load_some(x, count); }

float inverse(uint16_t scale) {
  const float s = float_from_half(scale);
  return s != 0 ? 1.0f / s : 0.0f;
}

// The largest and the smallest number of a row, and whether all are finite.
struct Extent {
  float least = 0, most = 0;
  bool finite = true;

  Extent(const float* x, size_t width) {
    F8 low = F8::all(x[0]), high = low, wrong = F8::all(0);
    for (size_t i = 0; i < width; i += 8) {
      // The last vector once more where less than one is left: extremes do not mind.
      const F8 v = width - i >= 8 ? F8::load(x + i) : width >= 8 ? F8::load(x + width - 8) : repeated(x, width);
      low = min(v, low);
      high = max(v, high);
      wrong = wrong + (v - v);  // zero, or no number
    }
    least = 0.0f - largest(F8::all(0) - low);  // never minus zero
    most = largest(high);
    finite = sum(wrong) == 0;
  }

 private:
  static F8 repeated(const float* x, size_t width) {
    float lanes[8];
    for (size_t i = 0; i < 8; ++i) lanes[i] = x[i < width ? i : 0];
    return F8::load(lanes);
  }
};

void encode_bf16(const float* x, size_t width, uint16_t* codes) {
  for (size_t i = 0; i < width; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    codes[i] = uint16_t((nan ? bits | 0x00400000 : bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

void encode_q8(const float* x, size_t width, int8_t* codes, const KvRow& row) {
  const Extent extent(x, width);
  *row.scale = extent.finite ? half_from_float(std::max(extent.most, -extent.least) / 127.0f) : kNoNumber;
  if (!extent.finite) return void(std::fill_n(codes, width, int8_t(0)));
  const F8 factor = F8::all(inverse(*row.scale)), most = F8::all(127), least = F8::all(-127);
  for (size_t i = 0; i < width; i += 8) {
    const size_t count = std::min<size_t>(8, width - i);
    float lanes[8];
    max(least, min(most, rounded(load_up_to(x + i, count) * factor))).store(lanes);
    for (size_t k = 0; k < count; ++k) codes[i + k] = int8_t(lanes[k]);
  }
}

void encode_q4(const float* x, size_t width, uint8_t* codes, const KvRow& row) {
  const Extent extent(x, width);
  *row.offset = half_from_float(extent.least);
  const float least = float_from_half(*row.offset), span = (extent.most - least) / 15.0f;
  const bool finite = extent.finite && std::isfinite(span);
  *row.scale = finite ? half_from_float(std::max(span, 0.0f)) : kNoNumber;
  if (!finite) {
    *row.offset = 0;
    return void(std::fill_n(codes, kv_row_nbytes(KvCodec::q4, width), uint8_t(0)));
  }
  const F8 factor = F8::all(inverse(*row.scale)), most = F8::all(15), zero = F8::all(0), start = F8::all(least);
  for (size_t i = 0; i < width; i += kNibbleGroup, codes += kNibbleGroup / 2) {
    float lanes[kNibbleGroup] = {};
    for (size_t h = 0; h < kNibbleGroup && i + h < width; h += 8)
      max(zero, min(most, rounded((load_up_to(x + i + h, width - i - h) - start) * factor))).store(lanes + h);
    for (size_t k = width - i; k < kNibbleGroup; ++k) lanes[k] = 0;
    for (size_t k = 0; k < 8; ++k) codes[k] = uint8_t(unsigned(lanes[k]) | unsigned(lanes[k + 8]) << 4);
  }
}

void decode_f16(const uint16_t* codes, size_t width, float* out) {
  size_t i = 0;
  for (; i + 8 <= width; i += 8) F8::load_half(codes + i).store(out + i);
  if (i < width) store_some(load_half_some(codes + i, width - i), out + i, width - i);
}

void decode_q4(const uint8_t* codes, size_t width, float scale, float offset, float* out) {
  for (size_t i = 0; i < width; ++i) {
    const uint8_t two = codes[i / kNibbleGroup * 8 + i % 8];
    out[i] = float(i % kNibbleGroup < 8 ? two & 15 : two >> 4) * scale + offset;
  }
}

template <class Number>
Number* numbers_of(const KvRow& row) {
  return reinterpret_cast<Number*>(row.codes);
}

}  // namespace

void encode_row(const float* x, size_t width, const KvRow& row) {
  switch (row.codec) {
    case KvCodec::f32: return void(std::copy_n(x, width, numbers_of<float>(row)));
    case KvCodec::f16: return to_half(x, width, numbers_of<uint16_t>(row));
    case KvCodec::bf16: return encode_bf16(x, width, numbers_of<uint16_t>(row));
    case KvCodec::q8: return encode_q8(x, width, numbers_of<int8_t>(row), row);
    case KvCodec::q4: return encode_q4(x, width, row.codes, row);
  }
}

void decode_row(const KvRow& row, size_t width, float* out) {
  switch (row.codec) {
    case KvCodec::f32: return void(std::copy_n(numbers_of<float>(row), width, out));
    case KvCodec::f16: return decode_f16(numbers_of<uint16_t>(row), width, out);
    case KvCodec::bf16:
      for (size_t i = 0; i < width; ++i) out[i] = float_from_bf16(numbers_of<uint16_t>(row)[i]);
      return;
    case KvCodec::q8:
      for (size_t i = 0; i < width; ++i) out[i] = float(numbers_of<int8_t>(row)[i]) * float_from_half(*row.scale);
      return;
    case KvCodec::q4:
      return decode_q4(row.codes, width, float_from_half(*row.scale), float_from_half(*row.offset), out);
  }
}

}  // namespace apportion::APPORTION_ISA
