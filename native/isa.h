// The functions that every instruction set defines in its own namespace; table.cpp gathers them.
#pragma once

#include "kernels.h"
#include "split.h"

namespace apportion::APPORTION_ISA {

void multiply(const Run&, const Token*, size_t num_tokens, float* sums);
void multiply_floats(const Run&, const Token*, size_t num_tokens, float* sums);
void multiply_side_by_side(const Format&, size_t num_cols, const Pass*, size_t num_passes);
void multiply_floats_side_by_side(const Format&, size_t num_cols, const Pass*, size_t num_passes);
void multiply_exactly(const Run&, const Token*, size_t num_tokens, float* sums);
void expand(const Run&, float* out);  // numbers [columns][16] of a run of codes
void multiply_upper(const Run&, const Token*, size_t num_tokens, float* sums);
void multiply_split(const SplitPanel&, size_t num_panels, size_t num_cols, const Token*, size_t num_tokens,
                    float* sums);
void split_panel(const uint8_t* panel, size_t num_blocks, uint8_t* upper, uint8_t* lower);
void join_panel(const uint8_t* upper, const uint8_t* lower, size_t num_blocks, uint8_t* panel);
Outlier quantize(const float* x, size_t num_cols, Activations, bool apart, void* groups);
void rms_norm(const float* x, const float* weight, size_t width, float eps, float* out);
void gate(const float* gate, const float* up, size_t count, GateKind, float* out);
void rotate_head(const float* angles, size_t num_pairs, bool interleaved, float* x);
void bound(float* x, size_t count, float scale, float cap);
void to_half(const float* x, size_t count, uint16_t* out);
void encode_row(const float* x, size_t width, const KvRow& row);
void decode_row(const KvRow& row, size_t width, float* out);
size_t attend_scratch(size_t num_rows, size_t key_width, size_t value_width);
void attend_block(const AttendTile&, size_t block, const KvPage* pages, const KvPage* ahead, float* scratch,
                  const Partial& out);
void merge(const Partial& total, const Partial& part, size_t num_rows, size_t width);
size_t find_largest(const float* x, size_t count);
size_t collect(const float* x, size_t count, float least, size_t first, int32_t* places);
float exponentials(const float* x, size_t count, float top, float factor, float* out);
uint64_t sum_words(const unsigned char* p, size_t nbytes);
uint64_t multiply_adds(PeakKind kind, size_t rounds);

}  // namespace apportion::APPORTION_ISA
