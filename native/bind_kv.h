// Pools and tables of keys and values, as Python holds them.
#pragma once

#include <tuple>
#include <vector>

#include "kv_pages.h"
#include "views.h"

namespace apportion {

// Codec, heads, key width, value width, joint, offset, bytes of a head's page.
using LayerNumbers = std::tuple<int, size_t, size_t, size_t, bool, size_t, size_t>;

// A pool over an array, which it keeps.
class KvMemory {
 public:
  KvMemory(nanobind::handle memory, size_t block_nbytes, const std::vector<LayerNumbers>& layers);

  const KvPool& pool() const { return pool_; }
  // Factors [G, D] of each layer's keys, or none.
  void smooth(const nanobind::sequence& factors);
  // Rows of a block of another pool into one of this, in this one's codecs.
  void encode(size_t block, const KvMemory& from, size_t other, size_t first, size_t count) const;

 private:
  View memory_;
  KvPool pool_;
};

// A table that keeps its pools. It is not to change while runs read and write what it names.
class SequenceTable {
 public:
  SequenceTable() = default;
  SequenceTable(const SequenceTable&) = delete;
  SequenceTable& operator=(const SequenceTable&) = delete;

  const KvTable& table() const { return table_; }
  size_t num_blocks() const { return table_.blocks.size(); }

  void append(nanobind::handle pool, size_t index, uint32_t live);
  void replace(size_t block, nanobind::handle pool, size_t index, uint32_t live);
  void truncate(size_t num_blocks);
  // (pool, index, live) for each head's pages.
  void keep(size_t layer, size_t first, const nanobind::sequence& heads);

  // What a layer's pages are like; those of all blocks must be alike.
  KvShape shape(size_t layer) const;
  void check(size_t layer, const KvShape& shape) const;
  size_t num_layers() const;
  // A window counts places: refuses a layer that lacks some of those before `start`.
  void require_whole(size_t layer, size_t start) const;

  void begin_use() { ++num_runs_; }
  void end_use() { --num_runs_; }

 private:
  KvBlock block(nanobind::handle pool, size_t index, uint32_t live);
  void require_idle() const { require(num_runs_ == 0, "the table is in use by a run"); }

  KvTable table_;
  std::vector<nanobind::object> pools_;  // those that it has named
  std::vector<const KvPool*> known_;     // the same
  size_t num_runs_ = 0;
};

// The segments of a run, and their tables, which are in use as long as it lives. Made and ended with the GIL.
class Batch {
 public:
  Batch() = default;
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() { end(); }

  // From (table, start, number of tokens, position) for each; what does not lie in its table is refused.
  void begin(const nanobind::sequence& segments);
  void end();

  std::span<const KvSegment> segments() const { return segments_; }
  std::span<SequenceTable* const> tables() const { return tables_; }
  size_t num_tokens() const;

  // Of all tables.
  KvShape shape(size_t layer) const;
  void require_whole(size_t layer) const;

 private:
  std::vector<KvSegment> segments_;
  std::vector<SequenceTable*> tables_;
  std::vector<nanobind::object> kept_;
};

void bind_kv(nanobind::module_& m);

}  // namespace apportion
