// Attention of a tile of queries over a run of positions, as one partial result: blocks of 64 positions, a running
// maximum, and scores and values computed with positions and value columns in the vector lanes.
//
// A row's arithmetic depends on the row's own position and on the run's borders only, not on the tile around it.
#include <algorithm>
#include <limits>

#include "isa.h"
#include "simd.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = kAttendBlock;

// Positions that a row sees: low .. high.
struct Sight {
  size_t low, high;
};

Sight sight_of(const AttendTile& tile, size_t row) {
  const size_t position = tile.first_position + row / tile.num_heads;
  const size_t low = tile.window && position >= tile.window ? position - tile.window + 1 : 0;
  return {low, position};
}

const float* query_of(const AttendTile& tile, size_t row) {
  return tile.q + row / tile.num_heads * tile.q_token_stride + row % tile.num_heads * tile.q_head_stride;
}

F8 load_cache(const void* base, bool halves, size_t index) {
  return halves ? F8::load_half(static_cast<const uint16_t*>(base) + index)
                : F8::load(static_cast<const float*>(base) + index);
}

float load_cache_one(const void* base, bool halves, size_t index) {
  return halves ? float_from_half(static_cast<const uint16_t*>(base)[index]) : static_cast<const float*>(base)[index];
}

#if defined(APPORTION_AVX2)

void transpose8(F8* rows) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pair[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
  }
}

#else

void transpose8(F8* rows) {
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < i; ++j) std::swap(rows[i].v[j], rows[j].v[i]);
}

#endif

// Keys first .. first + count - 1 -> columns [key_size][64]; places without a key become zero.
void load_keys(const AttendTile& tile, size_t first, size_t count, float* columns) {
  for (size_t p = 0; p < kBlock; p += 8) {
    const size_t here = p < count ? std::min<size_t>(8, count - p) : 0;
    size_t d = 0;
    for (; d + 8 <= tile.key_size; d += 8) {
      F8 rows[8];
      for (size_t i = 0; i < 8; ++i)
        rows[i] = i < here ? load_cache(tile.k, tile.halves, (first + p + i) * tile.k_stride + d) : F8::all(0);
      if (here) transpose8(rows);
      for (size_t i = 0; i < 8; ++i) rows[i].store(columns + (d + i) * kBlock + p);
    }
    for (; d < tile.key_size; ++d)
      for (size_t i = 0; i < 8; ++i)
        columns[d * kBlock + p + i] =
            i < here ? load_cache_one(tile.k, tile.halves, (first + p + i) * tile.k_stride + d) : 0.0f;
  }
}

// Values first .. first + count - 1 -> [count][width], width being value_size rounded up to 8.
void load_values(const AttendTile& tile, size_t first, size_t count, size_t width, float* values) {
  for (size_t p = 0; p < count; ++p) {
    const size_t from = (first + p) * tile.v_stride;
    float* to = values + p * width;
    size_t d = 0;
    for (; d + 8 <= tile.value_size; d += 8) load_cache(tile.v, tile.halves, from + d).store(to + d);
    for (; d < tile.value_size; ++d) to[d] = load_cache_one(tile.v, tile.halves, from + d);
    for (; d < width; ++d) to[d] = 0;
  }
}

// scores[r][64] = q[r] . keys, for Rows rows and 8 * Cols positions at a time.
template <int Rows, int Cols>
void score_rows(const float* const* q, size_t key_size, const float* columns, float* scores) {
  for (size_t p = 0; p < kBlock; p += 8 * Cols) {
    F8 sums[Rows][Cols];
    for (auto& row : sums)
      for (F8& s : row) s = F8::all(0);
    for (size_t d = 0; d < key_size; ++d) {
      F8 keys[Cols];
      for (int c = 0; c < Cols; ++c) keys[c] = F8::load(columns + d * kBlock + p + size_t(8 * c));
      for (int r = 0; r < Rows; ++r) {
        const F8 one = F8::all(q[r][d]);
        for (int c = 0; c < Cols; ++c) sums[r][c] = fma(one, keys[c], sums[r][c]);
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < Cols; ++c) sums[r][c].store(scores + size_t(r) * kBlock + p + size_t(8 * c));
  }
}

// out[r] += shares[r] . values, for Rows rows, columns from `col` on as long as 8 * Cols are left.
template <int Rows, int Cols>
size_t add_columns(const float* shares, const float* values, size_t count, size_t width, size_t col, float* out) {
  for (; col + 8 * Cols <= width; col += 8 * Cols) {
    F8 sums[Rows][Cols];
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < Cols; ++c) sums[r][c] = F8::load(out + size_t(r) * width + col + size_t(8 * c));
    for (size_t p = 0; p < count; ++p) {
      F8 v[Cols];
      for (int c = 0; c < Cols; ++c) v[c] = F8::load(values + p * width + col + size_t(8 * c));
      for (int r = 0; r < Rows; ++r) {
        const F8 share = F8::all(shares[size_t(r) * kBlock + p]);
        for (int c = 0; c < Cols; ++c) sums[r][c] = fma(share, v[c], sums[r][c]);
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < Cols; ++c) sums[r][c].store(out + size_t(r) * width + col + size_t(8 * c));
  }
  return col;
}

// One row's scores become shares relative to exp(top); returns the factor for what was summed before. Hidden places
// become exactly zero, so they change nothing.
float softmax_row(const AttendTile& tile, Sight sight, size_t first, float* scores, float& top, float& total) {
  const size_t low = sight.low > first ? std::min(sight.low - first, kBlock) : 0;
  const size_t end = sight.high >= first ? std::min(sight.high - first + 1, kBlock) : 0;
  if (low >= end) {
    std::fill(scores, scores + kBlock, 0.0f);
    return 1.0f;
  }
  for (size_t p = 0; p < kBlock; p += 8) {
    F8 s = F8::load(scores + p) * F8::all(tile.scale);
    if (tile.softcap > 0) s = F8::all(tile.softcap) * tanh(s / F8::all(tile.softcap));
    s.store(scores + p);
  }
  std::fill(scores, scores + low, kMinusInfinity);
  std::fill(scores + end, scores + kBlock, kMinusInfinity);
  F8 best = F8::load(scores);
  for (size_t p = 8; p < kBlock; p += 8) best = max(best, F8::load(scores + p));
  float lanes[8];
  best.store(lanes);
  float most = top;
  for (float lane : lanes) most = lane > most ? lane : most;
  F8 sums = F8::all(0);
  for (size_t p = 0; p < kBlock; p += 8) {
    const F8 share = exp(F8::load(scores + p) - F8::all(most));
    share.store(scores + p);
    sums = sums + share;
  }
  const float factor = most == top ? 1.0f : std::exp(top - most);
  total = total * factor + sum(sums);
  top = most;
  return factor;
}

template <int Rows>
void attend_rows(const AttendTile& tile, size_t row, size_t first, size_t count, const float* columns,
                 const float* values, size_t width, float* scores, const Partial& out) {
  constexpr int kCols = Rows == 4 ? 2 : Rows == 1 ? 8 : 4;
  constexpr int kValueCols = Rows == 4 ? 2 : 4;
  const float* q[Rows];
  for (int r = 0; r < Rows; ++r) q[r] = query_of(tile, row + size_t(r));
  score_rows<Rows, kCols>(q, tile.key_size, columns, scores);
  float* sums = out.values + row * width;
  for (size_t r = 0; r < Rows; ++r) {
    const float factor =
        softmax_row(tile, sight_of(tile, row + r), first, scores + r * kBlock, out.top[row + r], out.sum[row + r]);
    if (factor != 1.0f)
      for (size_t d = 0; d < width; d += 8)
        (F8::load(sums + r * width + d) * F8::all(factor)).store(sums + r * width + d);
  }
  const size_t col = add_columns<Rows, kValueCols>(scores, values, count, width, 0, sums);
  add_columns<Rows, 1>(scores, values, count, width, col, sums);
}

}  // namespace

void attend_run(const AttendTile& tile, size_t first, size_t last, float* scratch, const Partial& out) {
  const size_t width = round_up(tile.value_size, 8);
  float* columns = scratch;
  float* values = columns + tile.key_size * kBlock;
  float* scores = values + width * kBlock;
  std::fill(out.top, out.top + tile.num_rows, kMinusInfinity);
  std::fill(out.sum, out.sum + tile.num_rows, 0.0f);
  std::fill(out.values, out.values + tile.num_rows * width, 0.0f);
  const size_t lowest = sight_of(tile, 0).low, highest = sight_of(tile, tile.num_rows - 1).high;
  for (size_t p = first; p < std::min(last, highest + 1); p += kBlock) {
    const size_t count = std::min(kBlock, highest + 1 - p);
    if (p + count <= lowest) continue;
    load_keys(tile, p, count, columns);
    load_values(tile, p, count, width, values);
    size_t row = 0;
    for (; row + 4 <= tile.num_rows; row += 4) attend_rows<4>(tile, row, p, count, columns, values, width, scores, out);
    switch (tile.num_rows - row) {
      case 3: attend_rows<3>(tile, row, p, count, columns, values, width, scores, out); break;
      case 2: attend_rows<2>(tile, row, p, count, columns, values, width, scores, out); break;
      case 1: attend_rows<1>(tile, row, p, count, columns, values, width, scores, out); break;
      default: break;
    }
  }
}

}  // namespace apportion::APPORTION_ISA
