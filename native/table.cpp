#include "isa.h"

#define APPORTION_TEXT_OF(name) #name
#define APPORTION_TEXT(name) APPORTION_TEXT_OF(name)

namespace apportion::APPORTION_ISA {

const Kernels kernels = {
    .isa = APPORTION_TEXT(APPORTION_ISA),
    .multiply = multiply,
    .multiply_side_by_side = multiply_side_by_side,
    .multiply_exactly = multiply_exactly,
    .multiply_upper = multiply_upper,
    .multiply_split = multiply_split,
    .split_panel = split_panel,
    .join_panel = join_panel,
    .quantize = quantize,
    .rms_norm = rms_norm,
    .gate = gate,
    .rotate_head = rotate_head,
    .bound = bound,
    .to_half = to_half,
    .encode_row = encode_row,
    .decode_row = decode_row,
    .attend_scratch = attend_scratch,
    .attend_block = attend_block,
    .merge = merge,
    .find_largest = find_largest,
    .collect = collect,
    .exponentials = exponentials,
    .sum_words = sum_words,
    .multiply_adds = multiply_adds,
};

}  // namespace apportion::APPORTION_ISA
