// A panel's rows times tokens, for any processor: rows are taken out of the panel block by block, and multiplied as
// int16. The sums are those of products.cpp: exact integers within a group of 32, floats over the groups in order.
#include "codes.h"
#include "isa.h"

namespace apportion::APPORTION_ISA {

namespace {

struct Group {
  int16_t codes[kPanelRows][kGroup];
  float scales[kPanelRows], mins[kPanelRows][2];
  int32_t subs[kPanelRows][2];
};

template <FormatId Id>
void read_group(const uint8_t* block, const Format& format, size_t group, Group& out) {
  uint8_t row[sizeof(BlockQ6K)];
  static_assert(sizeof row >= sizeof(BlockQ5K) && sizeof row >= sizeof(BlockIq4Xs));
  Codes codes;
  for (size_t r = 0; r < kPanelRows; ++r) {
    take_row(format, block, r, 1, row);
    read_codes<Id>(row, group, codes);
    std::memcpy(out.codes[r], codes.code, sizeof codes.code);
    out.scales[r] = codes.scale;
    for (int i = 0; i < 2; ++i) {
      out.mins[r][i] = codes.min[i];
      out.subs[r][i] = codes.sub[i];
    }
  }
}

using ReadGroup = void (*)(const uint8_t* block, const Format& format, size_t group, Group& out);

ReadGroup reader_of(FormatId format) {
  switch (format) {
    case FormatId::q8_0: return read_group<FormatId::q8_0>;
    case FormatId::q4_0: return read_group<FormatId::q4_0>;
    case FormatId::q4_1: return read_group<FormatId::q4_1>;
    case FormatId::q5_0: return read_group<FormatId::q5_0>;
    case FormatId::q5_1: return read_group<FormatId::q5_1>;
    case FormatId::q2_k: return read_group<FormatId::q2_k>;
    case FormatId::q3_k: return read_group<FormatId::q3_k>;
    case FormatId::q4_k: return read_group<FormatId::q4_k>;
    case FormatId::q5_k: return read_group<FormatId::q5_k>;
    case FormatId::q6_k: return read_group<FormatId::q6_k>;
    case FormatId::iq4_nl: return read_group<FormatId::iq4_nl>;
    case FormatId::iq4_xs: return read_group<FormatId::iq4_xs>;
    case FormatId::mxfp4: return read_group<FormatId::mxfp4>;
    default: return nullptr;
  }
}

// How many minimums a group of this arithmetic has, and whether each 16 numbers have an integer scale.
size_t num_mins(Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::signed8) return 0;
  return arithmetic == Arithmetic::unsigned3 || arithmetic == Arithmetic::unsigned6 ? 2 : 1;
}

void widen(const Token& token, Arithmetic arithmetic, size_t group, int16_t* x) {
  if (arithmetic != Arithmetic::signed8) {
    const int8_t* codes = static_cast<const int8_t*>(token.codes) + group * kGroup;
    for (size_t i = 0; i < kGroup; ++i) x[i] = codes[i];
    return;
  }
  constexpr size_t kOrder[4] = {0, 2, 1, 3};
  const int16_t* codes = static_cast<const int16_t*>(token.codes) + group * kGroup;
  for (size_t i = 0; i < kGroup; ++i) x[i / 4 * 4 + kOrder[i % 4]] = codes[i];
}

int32_t dot16(const int16_t* a, const int16_t* b) {
  int32_t sum = 0;
  for (size_t i = 0; i < 16; ++i) sum += int32_t(a[i]) * int32_t(b[i]);
  return sum;
}

void multiply_group(const Group& g, const Token& token, Arithmetic arithmetic, size_t place, float* sums) {
  int16_t x[kGroup];
  widen(token, arithmetic, place, x);
  const size_t mins = num_mins(arithmetic);
  for (size_t r = 0; r < kPanelRows; ++r) {
    const int32_t total = dot16(g.codes[r], x) * g.subs[r][0] + dot16(g.codes[r] + 16, x + 16) * g.subs[r][1];
    sums[r] += float(total) * token.scales[place] * g.scales[r];
    for (size_t m = 0; m < mins; ++m) sums[r] += g.mins[r][m] * token.sums[place * mins + m];
  }
}

}  // namespace

void multiply(const Run& run, const Token* tokens, size_t num_tokens, float* sums) {
  const ReadGroup read = reader_of(run.format->id);
  if (!read) return multiply_floats(run, tokens, num_tokens, sums);
  const size_t per_block = run.format->block_size / kGroup;
  Group group;
  for (size_t g = 0; g < run.count / kGroup; ++g) {
    read(run.panel + run.nbytes(g / per_block * run.format->block_size), *run.format, g % per_block, group);
    for (size_t t = 0; t < num_tokens; ++t)
      multiply_group(group, tokens[t], run.format->arithmetic, run.first / kGroup + g, sums + t * kPanelRows);
  }
}

void multiply_side_by_side(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  for (size_t i = 0; i < num_passes; ++i)
    multiply({&format, passes[i].panel, 0, num_cols}, passes[i].token, 1, passes[i].sums);
}

void expand(const Run& run, float* out) {
  const ReadGroup read = reader_of(run.format->id);
  const size_t per_block = run.format->block_size / kGroup;
  Group group;
  for (size_t g = 0; g < run.count / kGroup; ++g) {
    read(run.panel + run.nbytes(g / per_block * run.format->block_size), *run.format, g % per_block, group);
    for (size_t i = 0; i < kGroup; ++i)
      for (size_t r = 0; r < kPanelRows; ++r)
        out[(g * kGroup + i) * kPanelRows + r] =
            group.scales[r] * float(group.subs[r][i / 16]) * float(group.codes[r][i]) + group.mins[r][i / 16];
  }
}

}  // namespace apportion::APPORTION_ISA
