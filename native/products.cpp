// A panel's rows times tokens. Groups of 32 columns give exact integer sums, which are added up as floats in the
// groups' order: a token's result does not depend on the tokens beside it.
//
// One token reads panels straight from memory, and a few where registers allow it. For more, a stretch of a panel, or
// of two, is unpacked into the L1 cache and serves tile after tile of tokens, while memory is asked for the next
// stretch.
#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "ask.h"
#include "isa.h"
#include "panels.h"

namespace apportion::APPORTION_ISA {

namespace {

constexpr size_t kUnpackedNbytes = 16 << 10;
constexpr size_t kBlockGroups = 256 / kGroup;  // of blocks that have integer scales

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
  for (size_t i = 0; i < Nbytes; i += 64) ask_for(p + Piece * Nbytes + i);
}

// What a tile of so many sums adds each of them up in.
template <class Sum, int Count>
struct SumIn {
  using Type = Sum;
};
template <class Sum, int Count>
  requires(Count <= kCodesTile) && requires { typename Sum::AmongFew; }
struct SumIn<Sum, Count> {
  using Type = typename Sum::AmongFew;
};

// The float sums of a tile of P panels times T tokens, and where its tokens' groups are. Panels share what is
// loaded of a token.
template <class C, int P, int T>
struct Tile {
  using Sum = typename SumIn<typename C::Sum, P * T>::Type;

  const typename C::Group* x[T];
  Floats acc[P][T];

  APPORTION_INLINE Tile(const Token* tokens, size_t first_group) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      x[t] = static_cast<const typename C::Group*>(tokens[t].numbers) + first_group;
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) acc[p][t] = all_floats(0);
    }
  }
  APPORTION_INLINE Tile(const Token* tokens, size_t first_group, const float* out, size_t stride = 0)
      : Tile(tokens, first_group) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) acc[p][t] = load_floats(out + size_t(p) * stride + size_t(t) * kPanelRows);
  }

  APPORTION_INLINE void store(float* out, size_t stride = 0) const {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) store_floats(out + size_t(p) * stride + size_t(t) * kPanelRows, acc[p][t]);
  }

  // Adds a block's sums, which are not scaled yet, to those of blocks before.
  template <class Panels>
  APPORTION_INLINE void settle(const Panels& panels, float* out, size_t stride = 0) const {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        float* sums = out + size_t(p) * stride + size_t(t) * kPanelRows;
        store_floats(sums, multiply_add(acc[p][t], panels.scales(p).scale, load_floats(sums)));
      }
  }

  template <int J>
  static APPORTION_INLINE Ints whole_of(const Sum& part, const GroupScales<C>& s) {
    if constexpr (C::kHasSubs)
      return part.total(s.subs, J / 4);
    else
      return part.total();
  }

  // Begins with columns 4J .. 4J + 3. What offsets add up to is taken away first: panels share it.
  template <int J>
  static APPORTION_INLINE void begin(Sum& part, const typename C::Sum::Codes& codes, const typename C::Group& x) {
    if constexpr (C::kIsWhole && !C::kHasSubs)
      part.begin_at(all_multiples<-C::kOffset>(x.sums[0]), codes, x.codes + 4 * J);
    else
      part.begin(codes, x.codes + 4 * J);
  }

  // Columns 4J .. 4J + 3 of what is left of codes.
  template <int J>
  static APPORTION_INLINE void add_fine(Sum& part, Ints& total, const typename C::Sum::Codes& codes,
                                        const typename C::Group& x) {
    if constexpr (J % C::kAdds == 0)
      part.begin(codes, x.fine + 4 * J);
    else
      part.add(codes, x.fine + 4 * J);
    if constexpr (J % C::kAdds == C::kAdds - 1) total = J < C::kAdds ? part.total() : total + part.total();
  }

  // Adds the products with group `g`, counted from the first; `panels` has its scales(p) and, of columns 4J .. 4J + 3,
  // codes<J>(p).
  template <class Panels>
  APPORTION_INLINE void add(size_t g, const Panels& panels) {
    Sum part[P][T];
    [[maybe_unused]] Sum first_half[P][T];
    Ints total[P][T];
    [[maybe_unused]] Sum fine_part[P][T];
    [[maybe_unused]] Ints fine_total[P][T];
    unrolled<8 / C::kTurn>([&]<int Turn>() APPORTION_LAMBDA_INLINE {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          unrolled<C::kTurn>([&]<int I>() APPORTION_LAMBDA_INLINE {
            constexpr int J = Turn * C::kTurn + I;
            const auto& c = panels.template codes<J>(p);
            if constexpr (J % C::kAdds == 0)
              begin<J>(part[p][t], c, x[t][g]);
            else
              part[p][t].add(c, x[t][g].codes + 4 * J);
            if constexpr (kIsRaised<C>) add_fine<J>(fine_part[p][t], fine_total[p][t], c, x[t][g]);
            if constexpr (C::kInHalves) {
              if constexpr (J == 3) first_half[p][t] = part[p][t];
              if constexpr (J == 7)
                total[p][t] =
                    Sum::template total<C::kOffset>(first_half[p][t], part[p][t], x[t][g].sums, panels.scales(p).subs);
            } else if constexpr (J % C::kAdds == C::kAdds - 1) {
              if constexpr (J < C::kAdds)
                total[p][t] = whole_of<J>(part[p][t], panels.scales(p));
              else
                total[p][t] = total[p][t] + whole_of<J>(part[p][t], panels.scales(p));
              if constexpr (T > 1) pin(total[p][t]);
            }
          });
    });
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        Floats sum = to_floats(total[p][t]);
        if constexpr (kIsRaised<C>)  // whole numbers that floats hold: rounded once
          sum = multiply_add(sum, all_floats(64), to_floats(fine_total[p][t] + all_ints(x[t][g].above)));
        if constexpr (!C::kByBlock) sum = sum * panels.scales(p).scale;
        if constexpr (C::kMins > 0)
#pragma GCC unroll 2
          for (int m = 0; m < C::kMins; ++m)
            sum = multiply_add(panels.scales(p).mins[size_t(m)], to_floats(all_ints(x[t][g].sums[m])), sum);
        acc[p][t] = multiply_add(sum, all_floats(x[t][g].scale), acc[p][t]);
      }
  }
};

// Number i of columns 4j .. 4j + 3 of a group.
template <class C>
APPORTION_INLINE Floats number_at(const GroupScales<C>& s, const typename C::Sum::Codes& codes, int j, int i) {
  const Floats scale = scale_of<C>(s, C::kHasSubs ? j / 4 : 0);
  Floats min = all_floats(0);
  if constexpr (C::kIsWhole) min = scale * all_floats(-C::kOffset);
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
    read_scales<R, G>(block, s);
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
  using Group = typename R::C::Group;
  if constexpr (std::is_same_v<Group, PairCodes> || std::is_same_v<Group, RaisedCodes>) return;  // have none
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

// A group as it stands in a block of one panel.
template <class R, int G>
struct InBlock {
  using C = typename R::C;
  const uint8_t* block;
  GroupScales<C> own;

  APPORTION_INLINE explicit InBlock(const uint8_t* at) : block(at) { read_scales<R, G>(at, own); }
  APPORTION_INLINE const GroupScales<C>& scales(int) const { return own; }
  template <int J>
  APPORTION_INLINE typename C::Sum::Codes codes(int) const {
    return C::Sum::prepare(R::template codes<G, J>(block));
  }
};

// How far ahead memory is asked: far enough for eight tokens, which compute nearly as long as memory takes.
template <class R>
constexpr size_t kAhead = std::max<size_t>(6144, R::kBlockNbytes);

constexpr size_t kPartsAhead = 3072;
constexpr size_t kFewSplit = 8;  // tokens: for more it is worth unpacking a panel in two parts

// Passes take turns group by group: the processor foresees what is read in order, a little at a time in each of several
// places, and what stands out of order in a large block is asked for before.
template <class R>
void multiply_directly(size_t first, size_t num_cols, const Pass* passes, size_t num_passes) {
  using C = typename R::C;
  const size_t num_blocks = num_cols / (R::kGroups * kGroup);
  [[maybe_unused]] float sums_of_block[kSideBySide][kPanelRows];
  for (size_t b = 0; b < num_blocks; ++b)
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
#pragma GCC unroll 1
      for (size_t i = 0; i < num_passes; ++i) {
        const uint8_t* block = passes[i].panel + b * R::kBlockNbytes;
        prefetch<R::kBlockNbytes / R::kGroups, G>(block + kAhead<R>);
        const InBlock<R, G> group(block);
        float* sums = C::kByBlock ? sums_of_block[i] : passes[i].sums;
        if (C::kByBlock && G == 0) std::fill_n(sums, kPanelRows, 0.0f);
        Tile<C, 1, 1> tile(passes[i].token, first / kGroup + b * R::kGroups + G, sums);
        tile.add(0, group);
        if constexpr (C::kByBlock && G == R::kGroups - 1)
          tile.settle(group, passes[i].sums);
        else
          tile.store(sums);
      }
    });
}

// A group of a panel in two parts.
struct InParts {
  using C = Reader<FormatId::q8_0>::C;
  const uint8_t *upper, *lower;
  GroupScales<C> own;

  APPORTION_INLINE InParts(const uint8_t* u, const uint8_t* l) : upper(u), lower(l) { own.scale = load_halves(u); }
  APPORTION_INLINE const GroupScales<C>& scales(int) const { return own; }
  template <int J>
  APPORTION_INLINE typename C::Sum::Codes codes(int) const {
    return C::Sum::prepare(joined_codes<J>(upper, lower));
  }
};

template <int T>
void multiply_parts(const SplitPanel& panel, size_t first_group, size_t num_groups, const Token* tokens,
                    size_t num_tokens, float* out) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows) {
    Tile<InParts::C, 1, T> tile(tokens, first_group, out);
    for (size_t g = 0; g < num_groups; ++g) {
      const uint8_t *upper = panel.upper + g * kUpperNbytes, *lower = panel.lower + g * kLowerNbytes;
      prefetch<kUpperNbytes, 0>(upper + kPartsAhead);
      prefetch<kLowerNbytes, 0>(lower + kPartsAhead);
      tile.add(g, InParts(upper, lower));
    }
    tile.store(out);
  }
  if constexpr (T > 1) multiply_parts<T - 1>(panel, first_group, num_groups, tokens, num_tokens, out);
}

// A tile of tokens, straight from the panel.
template <class R, int T>
void multiply_tile_directly(const Run& run, const Token* tokens, float* out) {
  using C = typename R::C;
  const uint8_t* block = run.panel;
  const auto add = [&](Tile<C, 1, T>& tile, size_t g) APPORTION_LAMBDA_INLINE {
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
      prefetch<R::kBlockNbytes / R::kGroups, G>(block + kAhead<R>);
      tile.add(g + G, InBlock<R, G>(block));
    });
  };
  const size_t first = run.first / kGroup, num_groups = run.count / kGroup;
  if constexpr (C::kByBlock) {
    for (size_t g = 0; g < num_groups; g += R::kGroups, block += R::kBlockNbytes) {
      Tile<C, 1, T> tile(tokens, first + g);
      add(tile, 0);
      tile.settle(InBlock<R, 0>(block), out);
    }
  } else {
    Tile<C, 1, T> tile(tokens, first, out);
    for (size_t g = 0; g < num_groups; g += R::kGroups, block += R::kBlockNbytes) add(tile, g);
    tile.store(out);
  }
}

// Tiles of T tokens while there are so many, smaller ones for the rest. The panel comes from memory for the first one.
template <class R, int T>
void multiply_few(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows)
    multiply_tile_directly<R, T>(run, tokens, out);
  if constexpr (T > 1) multiply_few<R, T - 1>(run, tokens, num_tokens, out);
}

// A stretch of a panel in the L1 cache, one block at least.
template <class C, size_t Nbytes>
struct Unpacked {
  using Codes = typename C::Sum::Codes;
  static constexpr size_t kGroups = std::max<size_t>(8, Nbytes / (8 * sizeof(Codes)));

  alignas(64) Codes codes[kGroups][8];
  GroupScales<C> scales[kGroups];
};

template <class R, size_t Nbytes>
void unpack(const uint8_t* block, size_t num_blocks, Unpacked<typename R::C, Nbytes>& out) {
  using C = typename R::C;
  for (size_t g = 0; g < num_blocks * R::kGroups; g += R::kGroups, block += R::kBlockNbytes)
    unrolled<int(R::kGroups)>([&]<int G>() APPORTION_LAMBDA_INLINE {
      read_scales<R, G>(block, out.scales[g + G]);
      unrolled<8>([&]<int J>() APPORTION_LAMBDA_INLINE {
        out.codes[g + G][J] = C::Sum::prepare(R::template codes<G, J>(block));
      });
    });
}

// A stretch of each of P panels that lie side by side.
template <class C, int P>
using UnpackedPanels = std::array<Unpacked<C, kUnpackedNbytes / size_t(P)>, size_t(P)>;

// Group g of all of them.
template <class C, int P>
struct InCache {
  const UnpackedPanels<C, P>& panels;
  size_t g;

  APPORTION_INLINE const GroupScales<C>& scales(int p) const { return panels[size_t(p)].scales[g]; }
  template <int J>
  APPORTION_INLINE const typename C::Sum::Codes& codes(int p) const {
    return panels[size_t(p)].codes[g][J];
  }
};

// Memory that is asked for while something else is computed, a line at a time: asked for more at once, it keeps what
// is computed waiting.
template <int N>
class Ahead {
 public:
  using Places = std::array<const uint8_t*, size_t(N)>;

  // `nbytes` at each place, in about equal pieces.
  Ahead(const Places& places, size_t nbytes, size_t num_pieces)
      : places_(places), nbytes_(nbytes), piece_(round_up(nbytes / num_pieces + 1, 64)) {}

  void begin_piece() { piece_end_ = std::min(at_ + piece_, nbytes_); }
  // The next line of the piece.
  APPORTION_INLINE void ask() {
    if (at_ >= piece_end_) return;
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) __builtin_prefetch(places_[size_t(i)] + at_);
    at_ += 64;
  }
  void end_piece() {
    while (at_ < piece_end_) ask();
  }

 private:
  Places places_;
  size_t nbytes_, piece_, at_ = 0, piece_end_ = 0;
};

// Never inlined: among what else its callers keep, GCC would spill the sums.
template <class C, int P, int T, int N>
[[gnu::noinline]] void multiply_unpacked(const UnpackedPanels<C, P>& panels, size_t first_group, size_t num_groups,
                                         const Token* tokens, float* out, size_t stride, Ahead<N>& from) {
  Ahead<N> ahead = from;  // in registers
  ahead.begin_piece();
  if constexpr (C::kByBlock) {
    for (size_t first = 0; first < num_groups; first += kBlockGroups) {
      Tile<C, P, T> tile(tokens, first_group + first);
#pragma GCC unroll 1
      for (size_t g = 0; g < kBlockGroups; ++g) {
        ahead.ask();
        tile.add(g, InCache<C, P>{panels, first + g});
      }
      tile.settle(InCache<C, P>{panels, first}, out, stride);
    }
  } else {
    Tile<C, P, T> tile(tokens, first_group, out, stride);
    for (size_t g = 0; g < num_groups; ++g) {
      ahead.ask();
      tile.add(g, InCache<C, P>{panels, g});
    }
    tile.store(out, stride);
  }
  ahead.end_piece();
  from = ahead;
}

// Tiles of T tokens while there are so many, smaller ones for the rest.
template <class C, int P, int T, int N>
void multiply_tiles(const UnpackedPanels<C, P>& panels, size_t first_group, size_t num_groups, const Token* tokens,
                    size_t num_tokens, float* out, size_t stride, Ahead<N>& ahead) {
  for (; num_tokens >= T; num_tokens -= T, tokens += T, out += T * kPanelRows)
    multiply_unpacked<C, P, T>(panels, first_group, num_groups, tokens, out, stride, ahead);
  if constexpr (T > 1)
    multiply_tiles<C, P, (T > 4 ? 4 : T - 1)>(panels, first_group, num_groups, tokens, num_tokens, out, stride, ahead);
}

// The run's P panels, in tiles of T tokens.
template <class R, int P, int T>
void multiply_many(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  using C = typename R::C;
  UnpackedPanels<C, P> panels;
  const size_t num_groups = run.count / kGroup, most = panels[0].kGroups / R::kGroups * R::kGroups;
  const size_t parts = (num_groups + most - 1) / most;
  const size_t step = std::min(most, round_up((num_groups + parts - 1) / parts, R::kGroups));
  const size_t size = num_tokens * kPanelRows;
  const auto place = [&](size_t panel, size_t g) {
    return run.panel + panel * run.stride + g / R::kGroups * R::kBlockNbytes;
  };
  for (size_t g = 0; g < num_groups; g += step) {
    const size_t count = std::min(step, num_groups - g);
    for (int i = 0; i < P; ++i) unpack<R>(place(size_t(i), g), count / R::kGroups, panels[size_t(i)]);
    const uint8_t* next = g + step < num_groups ? place(0, g + step) : run.next ? run.next : place(P, 0);
    typename Ahead<P>::Places places;
    for (size_t i = 0; i < size_t(P); ++i) places[i] = next + i * run.stride;
    Ahead<P> ahead(places, step / R::kGroups * R::kBlockNbytes, num_tokens / T + 1);
    multiply_tiles<C, P, T>(panels, run.first / kGroup + g, count, tokens, num_tokens, out, size, ahead);
  }
}

// Groups of a panel in two parts.
template <size_t Nbytes>
void unpack_parts(const SplitPanel& panel, size_t first, size_t count, Unpacked<InParts::C, Nbytes>& out) {
  for (size_t g = 0; g < count; ++g) {
    const InParts group(panel.upper + (first + g) * kUpperNbytes, panel.lower + (first + g) * kLowerNbytes);
    out.scales[g] = group.own;
    unrolled<8>([&]<int J>() APPORTION_LAMBDA_INLINE { out.codes[g][J] = group.codes<J>(0); });
  }
}

// P panels in two parts, in tiles of T tokens.
template <int P, int T>
void multiply_many_parts(const SplitPanel& first, size_t num_groups, const Token* tokens, size_t num_tokens,
                         float* out) {
  UnpackedPanels<InParts::C, P> panels;
  const size_t most = panels[0].kGroups, parts = (num_groups + most - 1) / most;
  const size_t step = (num_groups + parts - 1) / parts, size = num_tokens * kPanelRows;
  for (size_t g = 0; g < num_groups; g += step) {
    const size_t count = std::min(step, num_groups - g);
    for (size_t i = 0; i < size_t(P); ++i) unpack_parts(first.after(i, num_groups), g, count, panels[i]);
    const bool is_last = g + step >= num_groups;
    typename Ahead<2 * P>::Places next;
    for (size_t i = 0; i < size_t(P); ++i) {
      const SplitPanel panel = first.after(is_last ? i + size_t(P) : i, num_groups);
      next[2 * i] = panel.upper + (is_last ? 0 : g + step) * kUpperNbytes;
      next[2 * i + 1] = panel.lower + (is_last ? 0 : g + step) * kLowerNbytes;
    }
    Ahead<2 * P> ahead(next, step * kUpperNbytes, num_tokens / T + 1);
    multiply_tiles<InParts::C, P, T>(panels, g, count, tokens, num_tokens, out, size, ahead);
  }
}

template <class R>
void multiply_panel(const Run& run, size_t p, const Token* tokens, size_t num_tokens, float* out) {
  const Run panel = run.only(p);
  if (num_tokens == 1) {
    const Pass pass{panel.panel, tokens, out};
    return multiply_directly<R>(run.first, run.count, &pass, 1);
  }
  if constexpr (kFewTokens > 1)
    if (num_tokens <= kFewTokens) return multiply_few<R, kCodesTile>(panel, tokens, num_tokens, out);
  multiply_many<R, 1, kCodesTile>(panel, tokens, num_tokens, out);
}

template <class R>
void multiply_codes(const Run& run, const Token* tokens, size_t num_tokens, float* out) {
  constexpr int kTile = R::C::kHasSubs ? kScaledPairTile : kPairTile;
  const size_t size = num_tokens * kPanelRows;
  const bool together = kTile > 0 && run.num_panels == 2 && num_tokens > kFewTokens;
  if constexpr (kTile > 0)
    if (together) multiply_many<R, 2, kTile>(run, tokens, num_tokens, out);
  for (size_t p = 0; p < run.num_panels; ++p) {
    if (!together) multiply_panel<R>(run, p, tokens, num_tokens, out + p * size);
    add_outliers<R>(run.only(p), tokens, num_tokens, out + p * size);
  }
}

template <class R>
void multiply_passes(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  multiply_directly<R>(0, num_cols, passes, num_passes);
  for (size_t i = 0; i < num_passes; ++i)
    add_outliers<R>(Run{&format, passes[i].panel, 0, num_cols}, passes[i].token, 1, passes[i].sums);
}

// Unpacked groups as numbers, [columns][16].
template <class C>
void write_numbers(const Unpacked<C, kUnpackedNbytes>& panel, size_t num_groups, float* out) {
  for (size_t g = 0; g < num_groups; ++g)
    for (int j = 0; j < 8; ++j)
      for (int i = 0; i < 4; ++i, out += kPanelRows)
        store_floats(out, number_at<C>(panel.scales[g], panel.codes[g][j], j, i));
}

template <class R>
void expand_codes(const Run& run, float* out) {
  Unpacked<typename R::C, kUnpackedNbytes> panel;
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
    for (size_t p = 0; p < run.num_panels; ++p)
      multiply_floats(run.only(p), tokens, num_tokens, sums + p * num_tokens * kPanelRows);
}

void multiply_side_by_side(const Format& format, size_t num_cols, const Pass* passes, size_t num_passes) {
  if (!with_reader(format.id, [&]<class R>() { multiply_passes<R>(format, num_cols, passes, num_passes); }))
    multiply_floats_side_by_side(format, num_cols, passes, num_passes);
}

void multiply_upper(const Run& run, const Token* tokens, size_t num_tokens, float* sums) {
  multiply_codes<UpperPart>(run, tokens, num_tokens, sums);
}

void multiply_split(const SplitPanel& first, size_t num_panels, size_t num_cols, const Token* tokens, size_t num_tokens,
                    float* sums) {
  const size_t num_groups = num_cols / kGroup, size = num_tokens * kPanelRows;
  if constexpr (kPairTile > 0)
    if (num_panels == 2 && num_tokens > kFewSplit)
      return multiply_many_parts<2, kPairTile>(first, num_groups, tokens, num_tokens, sums);
  for (size_t p = 0; p < num_panels; ++p, sums += size) {
    const SplitPanel panel = first.after(p, num_groups);
    if (num_tokens > kFewSplit)
      multiply_many_parts<1, kCodesTile>(panel, num_groups, tokens, num_tokens, sums);
    else
      multiply_parts<kCodesTile>(panel, 0, num_groups, tokens, num_tokens, sums);
  }
}

void expand(const Run& run, float* out) {
  with_reader(run.format->id, [&]<class R>() { expand_codes<R>(run, out); });
}

}  // namespace apportion::APPORTION_ISA
