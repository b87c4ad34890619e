#include "bind_kv.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu.h"

namespace nb = nanobind;

namespace apportion {

namespace {

constexpr size_t kMostPlaces = size_t(1) << 31;
constexpr size_t kMostNumbers = 1 << 20;  // heads, or numbers of a row: far more than there are, and sums fit

LayerPages layer_of(const LayerNumbers& numbers, size_t block_nbytes) {
  const auto [codec, heads, key_width, value_width, joint, offset, head_nbytes] = numbers;
  require(codec >= 0 && size_t(codec) < kNumKvCodecs, "no such codec");
  require(heads > 0 && key_width > 0 && value_width > 0 && heads <= kMostNumbers && key_width <= kMostNumbers &&
              value_width <= kMostNumbers,
          "a layer needs heads, keys and values");
  require(!joint || value_width <= key_width, "joint values are the first numbers of the keys");
  const LayerPages pages{{heads, key_width, value_width, joint}, KvCodec(codec), offset, head_nbytes};
  require(pages.fits(block_nbytes), "the layer's pages do not fit in the block");
  return pages;
}

}  // namespace

KvMemory::KvMemory(nb::handle memory, size_t block_nbytes, const std::vector<LayerNumbers>& layers)
    : memory_(memory, "memory", kByte, Access::write) {
  memory_.of_ndim(1).contiguous();
  uint8_t* const first = memory_.data<uint8_t>();
  require(block_nbytes > 0 && !layers.empty(), "a pool needs blocks and layers");
  require(memory_.size() % block_nbytes == 0, "the memory is not a whole number of blocks");
  require(reinterpret_cast<uintptr_t>(first) % alignof(float) == 0, "the memory is not aligned");
  const size_t num_blocks = memory_.size() / block_nbytes;
  require(num_blocks <= std::numeric_limits<uint32_t>::max(), "the pool has too many blocks");
  pool_ = {first, num_blocks, block_nbytes, {}, {}};
  for (const LayerNumbers& numbers : layers) pool_.layers.push_back(layer_of(numbers, block_nbytes));
}

void KvMemory::smooth(const nb::sequence& factors) {
  std::vector<Smoothing> smoothing;
  for (const nb::handle one : factors) {
    require(smoothing.size() < pool_.layers.size(), "there are factors for more layers");
    const KvShape& shape = pool_.layers[smoothing.size()].shape;
    const View view(one, "factors", kFloat);
    view.of_ndim(2).contiguous();
    require(view.dim(0) == shape.num_heads && view.dim(1) == shape.key_width, "factors must be [heads, key width]");
    require(!shape.joint, "joint keys cannot be smoothed: values are a part of them");
    const std::span<const float> all(view.data<const float>(), view.size());
    for (const float factor : all) require(std::isnormal(factor) && factor > 0, "factors must be positive");
    Smoothing& own = smoothing.emplace_back();
    own.queries.assign(all.begin(), all.end());
    for (const float factor : all) own.keys.push_back(1.0f / factor);
  }
  require(smoothing.empty() || smoothing.size() == pool_.layers.size(), "there are factors for fewer layers");
  pool_.smoothing = std::move(smoothing);
}

void KvMemory::encode(size_t block, const KvMemory& from, size_t other, size_t first, size_t count) const {
  require(block < pool_.num_blocks && other < from.pool_.num_blocks, "the pool has no such block");
  require(count <= kPageTokens && first <= kPageTokens - count, "the block has no such rows");
  require(pool_.layers.size() == from.pool_.layers.size(), "the pools are of another number of layers");
  for (size_t layer = 0; layer < pool_.layers.size(); ++layer)
    require(pool_.layers[layer].shape == from.pool_.layers[layer].shape, "the pools are of other heads or sizes");
  const Kernels& kernels = *find_kernels(available_isas().front());  // all give the same bits
  const nb::gil_scoped_release unlocked;
  encode_rows(kernels, {&from.pool_, uint32_t(other), kAllLive}, {&pool_, uint32_t(block), kAllLive}, first, count);
}

KvBlock SequenceTable::block(nb::handle pool_, size_t index, uint32_t live) {
  const KvPool* pool = &nb::cast<const KvMemory&>(pool_).pool();
  require(index < pool->num_blocks, "the pool has no such block");
  if (std::ranges::find(known_, pool) == known_.end()) {
    pools_.push_back(nb::borrow(pool_));
    known_.push_back(pool);
  }
  return {pool, uint32_t(index), live};
}

void SequenceTable::append(nb::handle pool, size_t index, uint32_t live) {
  require_idle();
  require(table_.num_places() < kMostPlaces, "the table has too many blocks");
  table_.blocks.push_back(block(pool, index, live));
}

void SequenceTable::replace(size_t at, nb::handle pool, size_t index, uint32_t live) {
  require_idle();
  require(at < num_blocks(), "the table has no such block");
  table_.blocks[at] = block(pool, index, live);
}

void SequenceTable::truncate(size_t num_blocks) {
  require_idle();
  require(num_blocks <= this->num_blocks(), "the table has fewer blocks");
  require(num_blocks >= table_.num_replaced(), "heads have pages of their own in place of blocks after those");
  table_.blocks.resize(num_blocks);
}

void SequenceTable::keep(size_t layer, size_t first, const nb::sequence& heads) {
  require_idle();
  require(first <= num_blocks(), "the table has fewer blocks");
  require(layer < kMostNumbers, "no such layer");
  KvTable::Kept kept{first, {}};
  for (const nb::handle head : heads) {
    std::vector<KvBlock>& blocks = kept.heads.emplace_back();
    for (const nb::handle page : nb::cast<nb::sequence>(head)) {
      const auto [pool, index, live] = nb::cast<std::tuple<nb::object, size_t, uint32_t>>(page);
      blocks.push_back(block(pool, index, live));
    }
  }
  require(!kept.heads.empty(), "a layer has heads");
  table_.keep(layer, std::move(kept));
}

KvShape SequenceTable::shape(size_t layer) const {
  require(layer < num_layers(), "the pages have no such layer");
  const KvShape first = known_.front()->layers[layer].shape;
  check(layer, first);
  return first;
}

void SequenceTable::check(size_t layer, const KvShape& shape) const {
  for (const KvPool* pool : known_)
    require(layer < pool->layers.size() && pool->layers[layer].shape == shape, "the pages are of other heads or sizes");
  const KvTable::Kept* kept = table_.kept(layer);
  require(!kept || kept->heads.size() == shape.num_heads, "a layer's pages are of another number of heads");
}

size_t SequenceTable::num_layers() const {
  require(!known_.empty(), "a table has no blocks");
  const size_t count = known_.front()->layers.size();
  for (const KvPool* pool : known_) require(pool->layers.size() == count, "pools differ in layers");
  return count;
}

void SequenceTable::require_whole(size_t layer, size_t start) const {
  const auto& blocks = table_.blocks;
  bool whole = !table_.kept(layer);
  for (size_t i = 0; i < start / kPageTokens; ++i) whole = whole && blocks[i].live == kAllLive;
  if (const size_t rest = start % kPageTokens)
    whole = whole && !(~blocks[start / kPageTokens].live & ((uint32_t(1) << rest) - 1));
  require(whole, "a layer with a window needs all places that came before");
}

void Batch::begin(const nb::sequence& segments) {
  end();
  for (const nb::handle segment : segments) {
    const auto [object, start, num_tokens, position] =
        nb::cast<std::tuple<nb::object, size_t, size_t, size_t>>(segment);
    auto& table = nb::cast<SequenceTable&>(object);
    const size_t num_places = table.table().num_places();
    require(num_tokens > 0, "a segment has no tokens");
    require(num_tokens <= num_places && start <= num_places - num_tokens, "the table has no room for these tokens");
    require(position <= kMostPlaces - num_places, "the positions are too large");
    require(start / kPageTokens >= table.table().num_replaced(), "heads have pages of their own in these places");
    for (size_t place = start; place < start + num_tokens; ++place)
      require(table.table().blocks[place / kPageTokens].live >> place % kPageTokens & 1, "these places are dead");
    segments_.push_back({&table.table(), start, num_tokens, position});
    tables_.push_back(&table);
    kept_.push_back(object);
    table.begin_use();
  }
}

void Batch::end() {
  for (SequenceTable* table : tables_) table->end_use();
  segments_.clear();
  tables_.clear();
  kept_.clear();
}

size_t Batch::num_tokens() const {
  size_t count = 0;
  for (const KvSegment& segment : segments_) count += segment.num_tokens;
  return count;
}

KvShape Batch::shape(size_t layer) const {
  require(!tables_.empty(), "there are no segments");
  const KvShape first = tables_.front()->shape(layer);
  for (const SequenceTable* table : tables_) table->check(layer, first);
  return first;
}

void Batch::require_whole(size_t layer) const {
  for (size_t i = 0; i < tables_.size(); ++i) tables_[i]->require_whole(layer, segments_[i].start);
}

void bind_kv(nb::module_& m) {
  nb::class_<KvMemory>(m, "KvPool", "Blocks of keys and values in an array.")
      .def(nb::init<nb::handle, size_t, const std::vector<LayerNumbers>&>())
      .def("smooth", &KvMemory::smooth)
      .def("encode", &KvMemory::encode);
  nb::class_<SequenceTable>(m, "KvTable", "A sequence's blocks.")
      .def(nb::init<>())
      .def("append", &SequenceTable::append)
      .def("replace", &SequenceTable::replace)
      .def("truncate", &SequenceTable::truncate)
      .def("keep", &SequenceTable::keep)
      .def("__len__", &SequenceTable::num_blocks);
}

}  // namespace apportion
