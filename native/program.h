// A forward pass as a flat list of steps over numbered buffers, recorded once and run many times.
//
//   | embed | norm  project  place  attend  project  norm  gated  project | norm  project ... | norm  project |
//           ^ mark 0: layer 0                                             ^ mark 1            ^ mark L: the head
//
// Only one buffer, the hidden states, passes a mark, so a run may start and stop there.
#pragma once

#include <mutex>
#include <span>
#include <vector>

#include "arena.h"
#include "pages.h"
#include "steps.h"

namespace apportion {

enum class Want { hidden, last, all };  // what leaves the layers, or the logits of the last or of all tokens

// One run. Either `ids` [T] go in before layer 0, or hidden states `x` [T, H] before layer `first`.
struct Request {
  const int32_t* ids;
  const float* x;
  size_t num_tokens;
  size_t start;  // the first token's position
  size_t first, last;
  Want want;
  std::span<const LayerCache> caches;
  float* out;  // [T, H], [1, V] or [T, V]
  // Asked before each layer; the run ends early if it says so. May be null.
  bool (*should_stop)(void* context) = nullptr;
  void* stop_context = nullptr;
};

// Heads and sizes that a layer's cache must have.
struct CacheShape {
  size_t num_heads = 0, key_width = 0, value_width = 0;
};

class Program {
 public:
  explicit Program(const Context& context) : context_(context) {}

  // Recording, in the order of computation.
  Buffer make(size_t width);
  size_t num_buffers() const { return buffers_.size(); }
  size_t width(Buffer buffer) const { return buffers_[buffer].width; }
  size_t add_rotary(std::span<const float> inv_freq, bool interleaved, float scale);
  void add(Step step, std::initializer_list<Buffer> touched);
  void mark(Buffer hidden);
  void need_cache(size_t layer, const CacheShape& shape);
  // Buffers get their places. False: a buffer other than the hidden states is used on both sides of a mark.
  bool finish(Buffer logits);

  bool finished() const { return finished_; }
  size_t num_layers() const { return marks_.size() - 1; }
  size_t hidden_width() const { return width(marks_[0].hidden); }
  size_t logits_width() const { return width(logits_); }
  size_t nbytes_per_token() const { return numbers_per_token_ * sizeof(float); }
  std::span<const CacheShape> cache_shapes() const { return cache_shapes_; }

  // False: it was stopped. Runs wait for one another: they share the buffers.
  bool run(const Request& request);

 private:
  struct Mark {
    size_t step;
    Buffer hidden;
  };

  void touch(Buffer buffer);
  bool passes_marks_alone() const;
  void reserve(size_t num_tokens);
  void find_buffers(size_t num_tokens);
  void make_positions(const Scene& scene);
  void run_steps(const Scene& scene, size_t begin, size_t end) const;
  bool run_layers(const Scene& scene, const Request& request) const;
  void run_head(Scene scene, const Request& request);

  Context context_;
  std::vector<Step> steps_;
  std::vector<Mark> marks_;
  std::vector<Rotary> rotaries_;
  std::vector<CacheShape> cache_shapes_;
  std::vector<Lifetime> buffers_;
  Buffer positions_ = 0, logits_ = 0;
  bool finished_ = false;

  std::mutex in_use_;
  Pages arena_;
  size_t arena_tokens_ = 0, numbers_per_token_ = 0;
  std::vector<float*> addresses_;  // of the buffers, in the run at hand
};

}  // namespace apportion
