// Every kernel on every instruction set that this processor has, against the portable one; products with floats against
// sums in double precision. Prints what differs, and how many comparisons passed.
//
// It needs no Python, so that it runs where that is hard to come by: cross-compiled, in an emulator.
#include <cstdio>
#include <string>

#include "../../native/cpu.h"
#include "../../native/embed.h"
#include "../../native/split.h"
#include "data.h"

using namespace apportion;

namespace {

constexpr size_t kCols = 5 * 256;  // more than is unpacked at a time

int passed = 0, failed = 0;

void expect(bool holds, const Kernels& kernels, const std::string& what) {
  holds ? ++passed : ++failed;
  if (!holds) std::printf("%s: %s differs\n", kernels.isa, what.c_str());
}

// |a - b| <= tolerance, and not where a number is missing.
bool near(const Floats& a, const Floats& b, float tolerance) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance)) return false;
  return a.size() == b.size();
}

float sum_of_magnitudes(const Floats& x) {
  float sum = 0;
  for (float one : x) sum += std::abs(one);
  return sum;
}

using Multiply = void (*)(const Run&, const Token*, size_t, float*);

Floats multiply(Multiply kernel, const Run& run, const std::vector<Token>& tokens) {
  Floats sums(run.num_panels * tokens.size() * kPanelRows);
  kernel(run, tokens.data(), tokens.size(), sums.data());
  return sums;
}

struct Panel {
  const Format& format;
  std::vector<uint8_t> rows, panel;

  explicit Panel(const Format& f) : format(f), rows(random_rows(f, kCols)), panel(interleaved(f, rows, kCols)) {}
  Run run() const { return {&format, panel.data(), 0, kCols}; }
  // The panel and, beside it, one with its columns in another order.
  Run pair(std::vector<uint8_t>& room) const {
    const long turn = long(run().nbytes(256));
    room = panel;
    room.insert(room.end(), panel.begin() + turn, panel.end());
    room.insert(room.end(), panel.begin(), panel.begin() + turn);
    return {&format, room.data(), 0, kCols, 2, panel.size()};
  }
};

std::vector<Token> as_floats(const std::vector<Floats>& xs) {
  std::vector<Token> tokens;
  for (const Floats& x : xs) tokens.push_back({x.data()});
  return tokens;
}

Floats numbers_of(const Panel& panel, size_t row) {
  Floats numbers(kCols);
  decode_row(panel.format, panel.rows.data() + row * panel.format.row_nbytes(kCols), kCols, numbers.data());
  return numbers;
}

float largest_number(const Panel& panel) {
  float largest = 0;
  for (size_t row = 0; row < kPanelRows; ++row)
    for (float number : numbers_of(panel, row)) largest = std::max(largest, std::abs(number));
  return largest;
}

// Products with float activations by the definition: of the numbers that the row stands for.
Floats products_of(const Panel& panel, const std::vector<Floats>& xs) {
  Floats products;
  for (const Floats& x : xs)
    for (size_t row = 0; row < kPanelRows; ++row) {
      const Floats numbers = numbers_of(panel, row);
      double sum = 0;
      for (size_t k = 0; k < kCols; ++k) sum += double(numbers[k]) * double(x[k]);
      products.push_back(float(sum));
    }
  return products;
}

void compare_products(const Kernels& kernels, const Format& format) {
  const Panel panel(format);
  const float largest = largest_number(panel);
  for (size_t num_tokens : {1, 2, 3, 5, 8, 13, 26}) {
    std::vector<Floats> xs;
    float tolerance = 0;
    for (size_t t = 0; t < num_tokens; ++t) {
      xs.push_back(normal(kCols));
      tolerance = std::max(tolerance, 2e-6f * largest * sum_of_magnitudes(xs.back()));
    }
    const std::string what = std::string(format.name) + " times " + std::to_string(num_tokens) + " tokens";
    const auto compare = [&](Multiply kernel, const std::vector<Token>& tokens, const Floats& expected,
                             const std::string& how) {
      const Floats sums = multiply(kernel, panel.run(), tokens);
      expect(near(sums, expected, tolerance), kernels, what + how);
      for (size_t t = 0; t < num_tokens; ++t) {
        const Floats alone = multiply(kernel, panel.run(), {tokens[t]});
        expect(std::equal(alone.begin(), alone.end(), sums.begin() + long(t * kPanelRows)), kernels,
               what + how + ", a token alone");
      }
      std::vector<uint8_t> room;
      const Run pair = panel.pair(room);
      const Floats second = multiply(kernel, pair.only(1), tokens);
      Floats both = sums;
      both.insert(both.end(), second.begin(), second.end());
      expect(multiply(kernel, pair, tokens) == both, kernels, what + how + ", two panels together");
    };
    if (format.arithmetic == Arithmetic::floats) {
      compare(kernels.multiply, as_floats(xs), products_of(panel, xs), "");
      continue;
    }
    std::vector<Prepared> prepared;
    for (const Floats& x : xs) prepared.emplace_back(portable::kernels, activations_of(format), x.data(), kCols);
    std::vector<Token> tokens;
    for (const Prepared& one : prepared) tokens.push_back(one.token());
    compare(kernels.multiply, tokens, multiply(portable::kernels.multiply, panel.run(), tokens), "");
    compare(kernels.multiply_exactly, as_floats(xs), products_of(panel, xs), ", exactly");
  }
}

void compare_quantization(const Kernels& kernels) {
  for (Activations kind : {Activations::bytes32, Activations::bytes16, Activations::pairs}) {
    Floats x = normal(8 * kGroup, 3);
    std::fill_n(x.begin(), kGroup, 1e-40f);
    x[kGroup] = 1e30f;
    const Prepared ours(kernels, kind, x.data(), x.size()), theirs(portable::kernels, kind, x.data(), x.size());
    expect(ours.groups == theirs.groups, kernels, "quantize, kind " + std::to_string(int(kind)));
    const bool apart = kind != Activations::pairs;
    expect(ours.outlier.column == (apart ? kGroup : Outlier().column) && ours.outlier.value == (apart ? 1e30f : 0.0f),
           kernels, "the outlier, kind " + std::to_string(int(kind)));
  }
}

// A panel of q8_0 whose scales are above zero.
std::vector<uint8_t> panel_to_split() {
  const Format& format = *find_format("q8_0");
  std::vector<uint8_t> rows = random_rows(format, kCols);
  for (size_t at = 0; at < rows.size(); at += format.block_nbytes) rows[at + 1] &= 0x7f;
  return interleaved(format, rows, kCols);
}

// Panels in two parts: the same numbers, and sums that products do not exceed.
void compare_split(const Kernels& kernels) {
  const Format& format = *find_format("q8_0");
  const std::vector<uint8_t> panel = panel_to_split(), other = panel_to_split();
  constexpr size_t kBlocks = kCols / kGroup, kUppers = kBlocks * kUpperNbytes, kLowers = kBlocks * kLowerNbytes;
  const auto split = [&](const Kernels& by) {
    std::vector<uint8_t> parts(panel.size());
    by.split_panel(panel.data(), kBlocks, parts.data(), parts.data() + kBlocks * kUpperNbytes);
    return parts;
  };
  const std::vector<uint8_t> parts = split(kernels);
  expect(parts == split(portable::kernels), kernels, "a panel in two parts");
  const SplitPanel own{parts.data(), parts.data() + kBlocks * kUpperNbytes};
  std::vector<uint8_t> joined(panel.size());
  kernels.join_panel(own.upper, own.lower, kBlocks, joined.data());
  expect(joined == panel, kernels, "two parts joined");
  std::vector<uint8_t> both(2 * panel.size());  // upper parts, then lower parts
  const SplitPanel two{both.data(), both.data() + 2 * kUppers};
  kernels.split_panel(panel.data(), kBlocks, both.data(), both.data() + 2 * kUppers);
  kernels.split_panel(other.data(), kBlocks, both.data() + kUppers, both.data() + 2 * kUppers + kLowers);

  for (size_t num_tokens : {1, 2, 5, 8, 9, 26}) {
    const std::string what = "a panel in two parts times " + std::to_string(num_tokens) + " tokens";
    std::vector<Prepared> pairs, raised;
    std::vector<Token> tokens, bounded;
    for (size_t t = 0; t < num_tokens; ++t) {
      const Floats x = normal(kCols);
      pairs.emplace_back(kernels, Activations::pairs, x.data(), kCols);
      raised.emplace_back(kernels, Activations::raised, x.data(), kCols);
    }
    for (size_t t = 0; t < num_tokens; ++t) {
      tokens.push_back({pairs[t].groups.data()});
      bounded.push_back({raised[t].groups.data()});
    }
    const Floats products = multiply(kernels.multiply, {&format, panel.data(), 0, kCols}, tokens);
    Floats sums(products.size());
    kernels.multiply_split(own, 1, kCols, tokens.data(), num_tokens, sums.data());
    expect(sums == products, kernels, what);
    Floats of_both = products;
    const Floats others = multiply(kernels.multiply, {&format, other.data(), 0, kCols}, tokens);
    of_both.insert(of_both.end(), others.begin(), others.end());
    sums.assign(of_both.size(), 0.0f);
    kernels.multiply_split(two, 2, kCols, tokens.data(), num_tokens, sums.data());
    expect(sums == of_both, kernels, what + ", two of them");
    const Run upper{&format, own.upper, 0, kCols, 1, kBlocks * kUpperNbytes};
    const Floats bounds = multiply(kernels.multiply_upper, upper, bounded);
    float slack = 0;
    bool holds = true;
    for (size_t i = 0; i < bounds.size(); ++i) {
      holds = holds && bounds[i] >= products[i];
      slack = std::max(slack, bounds[i] - products[i]);
    }
    expect(holds && slack > 0, kernels, what + ", bounds");
    const Floats theirs = multiply(portable::kernels.multiply_upper, upper, bounded);
    expect(near(bounds, theirs, 1e-4f * slack), kernels, what + ", bounds as the portable ones");
    const Floats alone = multiply(kernels.multiply_upper, upper, {bounded.back()});
    expect(std::equal(alone.begin(), alone.end(), bounds.end() - kPanelRows), kernels, what + ", bounds of one alone");
  }
}

void compare_elementwise(const Kernels& kernels) {
  for (size_t count : {1, 7, 8, 33, 576, 1539}) {
    const Floats x = normal(count, 4), y = normal(count);
    const std::string wide = " of " + std::to_string(count);
    Floats ours(count), theirs(count);
    kernels.rms_norm(x.data(), y.data(), count, 1e-5f, ours.data());
    portable::kernels.rms_norm(x.data(), y.data(), count, 1e-5f, theirs.data());
    expect(near(ours, theirs, 1e-5f), kernels, "rms_norm" + wide);
    for (GateKind kind : {GateKind::silu, GateKind::gelu_tanh, GateKind::swiglu_oai}) {
      kernels.gate(x.data(), y.data(), count, kind, ours.data());
      portable::kernels.gate(x.data(), y.data(), count, kind, theirs.data());
      expect(near(ours, theirs, 5e-5f), kernels, "gate, kind " + std::to_string(int(kind)) + wide);
    }
    ours = theirs = x;
    kernels.bound(ours.data(), count, 1.5f, 3.0f);
    portable::kernels.bound(theirs.data(), count, 1.5f, 3.0f);
    expect(near(ours, theirs, 1e-5f), kernels, "bound" + wide);
    for (bool pairs_are_neighbours : {false, true}) {
      ours = theirs = normal(2 * count);
      const Floats angles = normal(2 * count);
      kernels.rotate_head(angles.data(), count, pairs_are_neighbours, ours.data());
      portable::kernels.rotate_head(angles.data(), count, pairs_are_neighbours, theirs.data());
      expect(near(ours, theirs, 1e-5f), kernels, "rotate_head" + wide);
    }
  }
}

void compare_halves(const Kernels& kernels) {
  Floats x = normal(1001, 100);
  const Floats special = {0.0f,  -0.0f, 1e-8f, 3e-8f,    6e-6f,   65504,  65519.9f,
                          65520, 1e9f,  -1e9f, INFINITY, 2049.0f, 2051.0f};
  x.insert(x.end(), special.begin(), special.end());
  std::vector<uint16_t> ours(x.size()), theirs(x.size());
  kernels.to_half(x.data(), x.size(), ours.data());
  portable::kernels.to_half(x.data(), x.size(), theirs.data());
  expect(ours == theirs, kernels, "to_half");
}

void compare_sampling(const Kernels& kernels) {
  for (size_t count : {1, 7, 32, 1003}) {
    Floats x = normal(count);
    const std::string among = " among " + std::to_string(count);
    expect(kernels.find_largest(x.data(), count) == portable::kernels.find_largest(x.data(), count), kernels,
           "find_largest" + among);
    std::vector<int32_t> ours(count), theirs(count);
    ours.resize(kernels.collect(x.data(), count, 0.5f, 3, ours.data()));
    theirs.resize(portable::kernels.collect(x.data(), count, 0.5f, 3, theirs.data()));
    expect(ours == theirs, kernels, "collect" + among);
    Floats e(count), f(count);
    const float sum = kernels.exponentials(x.data(), count, 3, 0.7f, e.data());
    const float other = portable::kernels.exponentials(x.data(), count, 3, 0.7f, f.data());
    expect(near(e, f, 1e-6f) && std::abs(sum - other) <= 1e-5f * other, kernels, "exponentials" + among);
    x[count / 2] = NAN;
    expect(kernels.find_largest(x.data(), count) == count / 2, kernels, "find_largest of NaN" + among);
  }
}

struct Attended {
  Floats top, sum, values;

  Attended(const Kernels& kernels, const AttendTile& tile, const std::vector<KvPage>& pages) {
    const size_t width = round_up(tile.value_width, 8);
    top.assign(tile.num_rows, -INFINITY);
    sum.assign(tile.num_rows, 0);
    values.assign(tile.num_rows * width, 0);
    Floats scratch(kernels.attend_scratch(tile.num_rows, tile.key_width, tile.value_width)), part_top(tile.num_rows),
        part_sum(tile.num_rows), part_values(values.size());
    const Partial part{part_top.data(), part_sum.data(), part_values.data()};
    for (size_t block = 0; block * kAttendPages < pages.size(); ++block) {
      const KvPage* own = &pages[block * kAttendPages];
      const bool is_last = (block + 1) * kAttendPages == pages.size();
      kernels.attend_block(tile, block, own, is_last ? own : own + kAttendPages, scratch.data(), part);
      kernels.merge({top.data(), sum.data(), values.data()}, part, tile.num_rows, width);
    }
    for (size_t r = 0; r < tile.num_rows; ++r)  // lanes past the value's size hold anything
      std::fill(values.begin() + long(r * width + tile.value_width), values.begin() + long((r + 1) * width), 0.0f);
  }
};

// A head page of random keys and values in a codec, as the portable kernels encode them.
struct Coded {
  std::vector<uint8_t> keys, values;
  std::vector<uint16_t> key_scales, value_scales;
  uint32_t live;
  KvCodec codec;

  Coded(KvCodec c, size_t width, uint32_t live_rows) : live(live_rows), codec(c) {
    keys.resize(kPageTokens * kv_row_nbytes(codec, width));
    values.resize(keys.size());
    key_scales.resize(kPageTokens * kv_num_scales(codec));
    value_scales.resize(key_scales.size());
    for (size_t row = 0; row < kPageTokens; ++row) {
      portable::kernels.encode_row(normal(width).data(), width, page().key_row(row, width));
      portable::kernels.encode_row(normal(width).data(), width, page().value_row(row, width));
    }
  }
  KvPage page() { return {keys.data(), values.data(), key_scales.data(), value_scales.data(), live, codec}; }
};

void compare_codes(const Kernels& kernels) {
  for (size_t codec = 0; codec < kNumKvCodecs; ++codec)
    for (size_t width : {1, 8, 17, 64, 130})
      for (float size : {1e-7f, 1.0f, 1e6f, INFINITY}) {
        Floats x = normal(width);
        x[width / 2] *= size;
        Coded ours(KvCodec(codec), width, kAllLive), theirs = ours;
        kernels.encode_row(x.data(), width, ours.page().key_row(3, width));
        portable::kernels.encode_row(x.data(), width, theirs.page().key_row(3, width));
        const std::string what = "codec " + std::to_string(codec) + " of " + std::to_string(width);
        expect(ours.keys == theirs.keys && ours.key_scales == theirs.key_scales, kernels, "encoding, " + what);
        Floats back(width), other(width);
        kernels.decode_row(ours.page().value_row(5, width), width, back.data());
        portable::kernels.decode_row(ours.page().value_row(5, width), width, other.data());
        expect(near(back, other, 1e-6f), kernels, "decoding, " + what);
      }
}

void compare_attention(const Kernels& kernels) {
  constexpr size_t kPositions = 2 * kAttendBlock, kHeads = 2;
  for (size_t size : {8, 20, 64})
    for (size_t num_rows : {2, 4, 6, 10})
      for (size_t codec = 0; codec < kNumKvCodecs; ++codec)
        for (size_t window : {0, 50}) {
          const Floats q = normal(num_rows * size);
          // The second and the sixth page have dead rows, and pages of two codecs follow one another.
          std::vector<Coded> coded;
          std::vector<KvPage> pages;
          for (size_t page = 0; page < kPositions / kPageTokens; ++page)
            coded.emplace_back(page == 3 ? KvCodec::f16 : KvCodec(codec), size, page % 4 == 1 ? 0x0ff0f00f : kAllLive);
          for (Coded& one : coded) pages.push_back(one.page());
          AttendTile tile{};
          tile.q = q.data();
          tile.q_token_stride = kHeads * size;
          tile.q_head_stride = size;
          tile.num_rows = num_rows;
          tile.num_heads = kHeads;
          tile.first_place = kPositions - num_rows / kHeads - 30;
          tile.key_width = tile.value_width = size;
          tile.window = window;
          tile.scale = 0.3f;
          tile.softcap = window ? 20.0f : 0.0f;
          const Attended ours(kernels, tile, pages), theirs(portable::kernels, tile, pages);
          expect(near(ours.top, theirs.top, 1e-4f) && near(ours.sum, theirs.sum, 1e-3f) &&
                     near(ours.values, theirs.values, 1e-3f),
                 kernels,
                 "attention of size " + std::to_string(size) + ", " + std::to_string(num_rows) + " rows, codec " +
                     std::to_string(codec));
        }
}

void compare_limits(const Kernels& kernels) {
  std::vector<uint8_t> bytes(8 * 512);
  for (uint8_t& byte : bytes) byte = uint8_t(generator()());
  expect(kernels.sum_words(bytes.data(), bytes.size()) == portable::kernels.sum_words(bytes.data(), bytes.size()),
         kernels, "sum_words");
  for (PeakKind kind : {PeakKind::int8, PeakKind::int16, PeakKind::f32, PeakKind::bf16})
    expect(kernels.multiply_adds(kind, 10) > 0, kernels, "multiply_adds");
}

}  // namespace

int main() {
  for (const std::string& isa : available_isas()) {
    const Kernels& kernels = *find_kernels(isa);
    for (int type = 0; type < 64; ++type)
      if (const Format* format = find_format(type)) compare_products(kernels, *format);
    compare_quantization(kernels);
    compare_split(kernels);
    compare_elementwise(kernels);
    compare_halves(kernels);
    compare_sampling(kernels);
    compare_codes(kernels);
    compare_attention(kernels);
    compare_limits(kernels);
    std::printf("%s: %d comparisons passed, %d failed so far\n", kernels.isa, passed, failed);
  }
  return failed ? 1 : 0;
}
