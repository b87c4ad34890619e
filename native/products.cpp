// A panel's rows times tokens. Groups of 32 columns give exact integer sums, which are added up as floats in the
// groups' order: a token's result does not depend on the tokens beside it.
//
// One token reads panels straight from memory, and a few where registers allow it. For more, a stretch of the panel
// that fits the L1 cache is unpacked first and then serves tile after tile of tokens.
#include <algorithm>
#include <utility>

#include "isa.h"
#include "panels.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr size_t kUnpackedNbytes = 16 << 10;

// Calls f<0>() .. f<N - 1>().
template <int N, class F>
APPORTION_INLINE void unrolled(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>)
      APPORTION_LAMBDA_INLINE { (f.template operator()<I>(), ...); }(std::make_integer_sequence<int, N>());
}

// Asks for a piece of what is read next.
template <size_t Nbytes, int Piece>
APPORTION_INLINE void prefetch(const uint8_t* p) {
#pragma GCC unroll 8
  for (size_t i = 0; i < Nbytes; i += 64) __builtin_prefetch(p + Piece * Nbytes + i);
}

// The float sums of a tile, and where its tokens' codes are.
template <class C, int T>
struct Tile {
  using X = typename C::Sum::X;
  const X* x[T];
  const float* scales[T];
  const float* sums[T];
  Floats acc[T];

  APPORTION_INLINE Tile(const Token* tokens, size_t first_group, const float* out) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      x[t] = static_cast<const X*>(tokens[t].codes) + first_group * kGroup;
      scales[t] = tokens[t].scales + first_group;
      if constexpr (C::kMins > 0) sums[t] = tokens[t].sums + first_group * C::kMins;
      acc[t] = load_floats(out + size_t(t) * kPanelRows);
    }
  }

  APPORTION_INLINE void store(float* out) const {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) store_floats(out + size_t(t) * kPanelRows, acc[t]);
  }

  template <int J>
  static APPORTION_INLINE Ints whole_of(const typename C::Sum& part, const GroupScales<C>& s) {
    if constexpr (C::kSubs > 0) return part.total(s.subs[J / 4]);
    if constexpr (C::kSubs == 0) return part.total();
  }

  // Adds the products with group `g`, counted from the first; codes<J>() are its columns 4J .. 4J + 3.
  template <class CodesAt>
  APPORTION_INLINE void add(size_t g, const GroupScales<C>& s, CodesAt codes) {
    typename C::Sum part[T];
    Ints total[T];
    unrolled<8 / C::kTurn>([&]<int Turn>() APPORTION_LAMBDA_INLINE {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        unrolled<C::kTurn>([&]<int I>() APPORTION_LAMBDA_INLINE {
          constexpr int J = Turn * C::kTurn + I;
          const auto& c = codes.template operator()<J>();
          if constexpr (J % C::kAdds == 0)
            part[t].begin(c, x[t] + g * kGroup + 4 * J);
          else
            part[t].add(c, x[t] + g * kGroup + 4 * J);
          if constexpr (J % C::kAdds == C::kAdds - 1) {
            if constexpr (J < C::kAdds)
              total[t] = whole_of<J>(part[t], s);
            else
              total[t] = total[t] + whole_of<J>(part[t], s);
            if constexpr (T > 1) pin(total[t]);
          }
        });
    });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      acc[t] = multiply_add(to_floats(total[t]) * all_floats(scales[t][g]), s.scale, acc[t]);
#pragma GCC unroll 2
      for (int m = 0; m < C::kMins; ++m)
        acc[t] = multiply_add(s.mins[m], all_floats(sums[t][g * size_t(C::kMins) + size_t(m)]), acc[t]);
    }
  }
};

// Number i of columns 4j .. 4j + 3 of a group.
template <class C>
APPORTION_INLINE Floats number_at(const GroupScales<C>& s, const typename C::Sum::Codes& codes, int j, int i) {
  Floats scale = s.scale, min = all_floats(0);
  if constexpr (C::kSubs > 0) scale = scale * to_floats(to_ints(s.subs[j / 4]));
  if constexpr (C::kMins > 0) min = s.mins[C::kMins > 1 ? j / 4 : 0];
  return multiply_add(scale, code_floats<typename C::Sum>(codes, i), min);
}

// A block's numbers of one column.
template <class R>
Floats column_of(const uint8_t* block, size_t column) {
  using C = typename R::C;
  Floats numbers = all_floats(0);
  unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
    if (column / kGroup != G) return;
    GroupScales<C> s;
    R::template scales<G>(block, s);
    unrolled<8>([&]<int J>() APPORTION_LAMBDA_INLINE {
      if (column % kGroup / 4 == J)
        numbers = number_at<C>(s, C::Sum::prepare(R::template codes<G, J>(block)), J, int(column % 4));
    });
  });
  return numbers;
}

// Outliers come last: the panel is in the cache then. Most tokens have theirs in the same column.
template <class R>
void add_outliers(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  if constexpr (sizeof(typename R::C::Sum::X) > 1) return;  // pairs have none
  constexpr size_t kColumns = R::kGroups * kGroup;
  size_t column = run.first + run.count;
  Floats numbers = all_floats(0);
  for (size_t t = 0; t < num_tokens; ++t, out += kPanelRows) {
    const Outlier& outlier = tokens[t].outlier;
    const size_t within = outlier.column - run.first;
    if (within >= run.count) continue;  // of another run
    if (outlier.column != column)
      numbers = column_of<R>(run.panel + within / kColumns * R::kBlockNbytes, within % kColumns);
    column = outlier.column;
    store_floats(out, multiply_add(numbers, all_floats(outlier.value), load_floats(out)));
  }
}

// How far ahead memory is asked.
template <class R>
constexpr size_t kAhead = std::max<size_t>(2048, R::kBlockNbytes);

// Passes take turns group by group: the processor foresees what is read in order, a little at a time in each of several
// places, and what stands out of order in a large block is asked for before.
template <class R>
void multiply_directly(size_t first, size_t num_cols, const Pass* passes, size_t num_passes) {
  using C = typename R::C;
  const size_t num_blocks = num_cols / (R::kGroups * kGroup);
  for (size_t b = 0; b < num_blocks; ++b)
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
#pragma GCC unroll 1
      for (size_t i = 0; i < num_passes; ++i) {
        const uint8_t* block = passes[i].panel + b * R::kBlockNbytes;
        prefetch<R::kBlockNbytes / R::kGroups, G>(block + kAhead<R>);
        Tile<C, 1> tile(passes[i].token, first / kGroup + b * R::kGroups + G, passes[i].sums);
        GroupScales<C> s;
        R::template scales<G>(block, s);
        tile.add(0, s,
                 [&]<int J>() APPORTION_LAMBDA_INLINE { return C::Sum::prepare(R::template codes<G, J>(block)); });
        tile.store(passes[i].sums);
      }
    });
}

// A tile of tokens, straight from the panel.
template <class R, int T>
void multiply_tile_directly(const Run& run, const Token* tokens, float* out) {
  using C = typename R::C;
  Tile<C, T> tile(tokens, run.first / kGroup, out);
  const uint8_t* block = run.panel;
  for (size_t g = 0; g < run.count / kGroup; g += R::kGroups, block += R::kBlockNbytes)
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
      prefetch<R::kBlockNbytes / R::kGroups, G>(block + kAhead<R>);
      GroupScales<C> s;
      R::template scales<G>(block, s);
      tile.add(g + G, s,
               [&]<int J>() APPORTION_LAMBDA_INLINE { return C::Sum::prepare(R::template codes<G, J>(block)); });
    });
  tile.store(out);
}

// Tiles of T tokens while there are so many, smaller ones for the rest. The panel comes from memory for the first one.
template <class R, int T>
void multiply_few(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows)
    multiply_tile_directly<R, T>(run, tokens, out);
  if constexpr (T > 1) multiply_few<R, T - 1>(run, tokens, num_tokens, out);
}

// A stretch of a panel in the L1 cache.
template <class C>
struct Unpacked {
  using Codes = typename C::Sum::Codes;
  static constexpr size_t kGroups = kUnpackedNbytes / (8 * sizeof(Codes));

  alignas(64) Codes codes[kGroups][8];
  GroupScales<C> scales[kGroups];
};

template <class R>
void unpack(const uint8_t* block, size_t num_blocks, Unpacked<typename R::C>& out) {
  using C = typename R::C;
  for (size_t g = 0; g < num_blocks * R::kGroups; g += R::kGroups, block += R::kBlockNbytes) {
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
      if constexpr (R::kGroups > 1)  // the next stretch
        prefetch<R::kBlockNbytes / R::kGroups, G>(block + num_blocks * R::kBlockNbytes);
      R::template scales<G>(block, out.scales[g + G]);
      unrolled<8>([&]<int J>() APPORTION_LAMBDA_INLINE {
        out.codes[g + G][J] = C::Sum::prepare(R::template codes<G, J>(block));
      });
    });
  }
}

// Never inlined: among what else its callers keep, GCC would spill the sums.
template <class C, int T>
[[gnu::noinline]] void multiply_unpacked(const Unpacked<C>& panel, size_t first_group, size_t num_groups,
                                         const Token* tokens, float* out) {
  Tile<C, T> tile(tokens, first_group, out);
  for (size_t g = 0; g < num_groups; ++g) {
    const auto* codes = panel.codes[g];
    tile.add(g, panel.scales[g], [&]<int J>() APPORTION_LAMBDA_INLINE -> const auto& { return codes[J]; });
  }
  tile.store(out);
}

// Tiles of T tokens while there are so many, smaller ones for the rest.
template <class C, int T>
void multiply_tiles(const Unpacked<C>& panel, size_t first_group, size_t num_groups, const Token* tokens,
                    size_t num_tokens, float* out) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows)
    multiply_unpacked<C, T>(panel, first_group, num_groups, tokens, out);
  if constexpr (T > 1) multiply_tiles<C, (T > 4 ? 4 : T - 1)>(panel, first_group, num_groups, tokens, num_tokens, out);
}

template <class R>
void multiply_many(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  using C = typename R::C;
  Unpacked<C> panel;
  const size_t num_groups = run.count / kGroup, most = Unpacked<C>::kGroups / R::kGroups * R::kGroups;
  const size_t parts = (num_groups + most - 1) / most;
  const size_t step = std::min(most, round_up((num_groups + parts - 1) / parts, R::kGroups));
  for (size_t g = 0; g < num_groups; g += step) {
    const size_t count = std::min(step, num_groups - g), first = run.first / kGroup + g;
    unpack<R>(run.panel + g / R::kGroups * R::kBlockNbytes, count / R::kGroups, panel);
    multiply_tiles<C, kCodesTile>(panel, first, count, tokens, num_tokens, out);
  }
}

template <class R>
void multiply_groups(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  if (num_tokens == 1) {
    const Pass pass{run.panel, tokens, out};
    return multiply_directly<R>(run.first, run.count, &pass, 1);
  }
  if constexpr (kFewTokens > 1)
    if (num_tokens <= kFewTokens) return multiply_few<R, kCodesTile>(run, tokens, num_tokens, out);
  multiply_many<R>(run, tokens, num_tokens, out);
}

template <class R>
void multiply_codes(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  multiply_groups<R>(run, tokens, num_tokens, out);
  add_outliers<R>(run, tokens, num_tokens, out);
}

template <class R>
void multiply_passes(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  multiply_directly<R>(0, num_cols, passes, num_passes);
  for (size_t i = 0; i < num_passes; ++i)
    add_outliers<R>(Run{&format, passes[i].panel, 0, num_cols}, passes[i].token, 1, passes[i].sums);
}

// Unpacked groups as numbers, [columns][16].
template <class C>
void write_numbers(const Unpacked<C>& panel, size_t num_groups, float* out) {
  for (size_t g = 0; g < num_groups; ++g)
    for (int j = 0; j < 8; ++j)
      for (int i = 0; i < 4; ++i, out += kPanelRows)
        store_floats(out, number_at<C>(panel.scales[g], panel.codes[g][j], j, i));
}

template <class R>
void expand_codes(const Run& run, float* out) {
  Unpacked<typename R::C> panel;
  constexpr size_t kStep = 256;
  for (size_t col = 0; col < run.count; col += kStep) {
    const size_t count = std::min(kStep, run.count - col);
    unpack<R>(run.panel + run.nbytes(col), count / run.format->block_size, panel);
    write_numbers(panel, count / kGroup, out + col * kPanelRows);
  }
}

// Calls f<Reader>() for the format's reader; false if its numbers are floats.
template <class F>
bool with_reader(FormatId format, F f) {
  switch (format) {
    case FormatId::q8_0: return f.template operator()<Reader<FormatId::q8_0>>(), true;
    case FormatId::q4_0: return f.template operator()<Reader<FormatId::q4_0>>(), true;
    case FormatId::q4_1: return f.template operator()<Reader<FormatId::q4_1>>(), true;
    case FormatId::q5_0: return f.template operator()<Reader<FormatId::q5_0>>(), true;
    case FormatId::q5_1: return f.template operator()<Reader<FormatId::q5_1>>(), true;
    case FormatId::q2_k: return f.template operator()<Reader<FormatId::q2_k>>(), true;
    case FormatId::q3_k: return f.template operator()<Reader<FormatId::q3_k>>(), true;
    case FormatId::q4_k: return f.template operator()<Reader<FormatId::q4_k>>(), true;
    case FormatId::q5_k: return f.template operator()<Reader<FormatId::q5_k>>(), true;
    case FormatId::q6_k: return f.template operator()<Reader<FormatId::q6_k>>(), true;
    case FormatId::iq4_nl: return f.template operator()<Reader<FormatId::iq4_nl>>(), true;
    case FormatId::iq4_xs: return f.template operator()<Reader<FormatId::iq4_xs>>(), true;
    case FormatId::mxfp4: return f.template operator()<Reader<FormatId::mxfp4>>(), true;
    default: return false;
  }
}

}  // namespace

void multiply(const Run& run, const Token* tokens, size_t num_tokens, float* sums) {
  if (!with_reader(run.format->id, [&]<class R>() { multiply_codes<R>(run, tokens, num_tokens, sums); }))
    multiply_floats(run, tokens, num_tokens, sums);
}

void multiply_side_by_side(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  if (!with_reader(format.id, [&]<class R>() { multiply_passes<R>(format, num_cols, passes, num_passes); }))
    multiply_floats_side_by_side(format, num_cols, passes, num_passes);
}

void expand(const Run& run, float* out) {
  with_reader(run.format->id, [&]<class R>() { expand_codes<R>(run, out); });
}

}  // namespace apportion::APPORTION_ISA
