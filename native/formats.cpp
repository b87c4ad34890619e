#include "formats.h"

#include <cstring>

namespace apportion {

static constexpr Format kFormats[kNumFormats] = {
    {"f32", FormatId::f32, 0, 1, 4, Arithmetic::floats},
    {"f16", FormatId::f16, 1, 1, 2, Arithmetic::floats},
    {"bf16", FormatId::bf16, 30, 1, 2, Arithmetic::floats},
    {"q8_0", FormatId::q8_0, 8, 32, sizeof(BlockQ8_0), Arithmetic::signed8},
    {"q4_0", FormatId::q4_0, 2, 32, sizeof(BlockQ4_0), Arithmetic::unsigned4},
    {"q4_1", FormatId::q4_1, 3, 32, sizeof(BlockQ4_1), Arithmetic::unsigned4},
    {"q5_0", FormatId::q5_0, 6, 32, sizeof(BlockQ5_0), Arithmetic::unsigned5},
    {"q5_1", FormatId::q5_1, 7, 32, sizeof(BlockQ5_1), Arithmetic::unsigned5},
    {"q2_k", FormatId::q2_k, 10, 256, sizeof(BlockQ2K), Arithmetic::unsigned3},
    {"q3_k", FormatId::q3_k, 11, 256, sizeof(BlockQ3K), Arithmetic::unsigned3},
    {"q4_k", FormatId::q4_k, 12, 256, sizeof(BlockQ4K), Arithmetic::unsigned4},
    {"q5_k", FormatId::q5_k, 13, 256, sizeof(BlockQ5K), Arithmetic::unsigned5},
    {"q6_k", FormatId::q6_k, 14, 256, sizeof(BlockQ6K), Arithmetic::unsigned6},
    {"iq4_nl", FormatId::iq4_nl, 20, 32, sizeof(BlockIq4Nl), Arithmetic::signed8},
    {"iq4_xs", FormatId::iq4_xs, 23, 256, sizeof(BlockIq4Xs), Arithmetic::signed8},
    {"mxfp4", FormatId::mxfp4, 39, 32, sizeof(BlockMxfp4), Arithmetic::unsigned5},
};

const Format* find_format(int ggml_type) {
  for (const Format& format : kFormats)
    if (format.ggml_type == ggml_type) return &format;
  return nullptr;
}

const Format* find_format(const char* name) {
  for (const Format& format : kFormats)
    if (std::strcmp(format.name, name) == 0) return &format;
  return nullptr;
}

}  // namespace apportion
