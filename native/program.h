// A forward pass as a flat list of steps over numbered buffers, recorded once and run many times.
//
//   | embed | norm  project  place  attend  project  norm  gated  project | norm  project ... | norm  project |
//           ^ mark 0: layer 0                                             ^ mark 1            ^ mark L: the head
//
// Only one buffer, the hidden states, passes a mark, so a run may start and stop there.
//
// Where experts come and go, the program stops at their step until the caller has had all of them applied. The tokens
// of a run may pass in chunks; all of them pass one stop, and one mark, before the next:
//
//   tokens 0..511    embed .. route |              | add .. route |              | .. head
//   tokens 512..     embed .. route | experts of 0 | add .. route | experts of 1 | .. head
//
// Buffers that pass a stop or a mark are *carried*: they have room for all tokens, all others for one chunk.
#pragma once

#include <mutex>
#include <span>
#include <vector>

#include "arena.h"
#include "pages.h"
#include "steps.h"

namespace apportion {

// What leaves the layers, or the logits of each segment's last token, of all tokens, or of some; or what leaves the
// layers of some.
enum class Want { hidden, last, all, some, some_hidden };

// Of each row of logits the largest alone is asked for, as find_best_rows (best.h) gives it.
struct BestOf {
  size_t num_logits;                 // that count, of a row
  std::span<const int32_t> without;  // ascending
  std::span<float> values;           // [rows]
  std::span<int32_t> ids;            // [rows]
  size_t num_whole = 0;              // panels of the head that were multiplied whole, of all rows
};

// One run of tokens of several sequences, one segment after the other. Either `ids` [T] go in before layer 0, or hidden
// states `x` [T, H] before layer `first`.
struct Request {
  const int32_t* ids;
  const float* x;
  size_t num_tokens;
  std::span<const KvSegment> segments;  // of all tokens; where no layer attends, none will do
  size_t first, last;
  Want want;
  std::span<const int32_t> rows;  // ascending: the tokens of which something is wanted, if some
  float* out;                     // [T, H], or [rows, V] or [rows, H]
  BestOf* best = nullptr;         // by bounds where there is no room for logits
  size_t room = 0;                // rows of logits that `out` holds at a time, if the best is asked for
  size_t chunk = 0;               // tokens that pass at a time; 0: all
  // Asked before each layer; the run ends early if it says so. May be null.
  bool (*should_stop)(void* context) = nullptr;
  void* stop_context = nullptr;
};

// What a layer's pages must be like.
struct LayerNeeds {
  KvShape shape;
  bool windowed = false;
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
  void need_pages(size_t layer, const LayerNeeds& needs);
  // Buffers get their places. False: a buffer other than the hidden states is used on both sides of a mark.
  bool finish(Buffer logits);

  bool finished() const { return finished_; }
  bool has_stops() const { return !stops_.empty(); }
  size_t num_layers() const { return marks_.size() - 1; }
  size_t hidden_width() const { return width(marks_[0].hidden); }
  size_t logits_width() const { return width(logits_); }
  // The head, if it is a split matrix, nothing follows its product, and activations are rounded for it; or null.
  const Matrix* split_head() const;
  // For each token of a chunk, and for each token of a run.
  size_t nbytes_per_token() const { return chunk_numbers_ * sizeof(float); }
  size_t nbytes_carried() const { return carried_numbers_ * sizeof(float); }
  std::span<const LayerNeeds> needs() const { return needs_; }

  // False: it was stopped. Runs wait for one another: they share the buffers. For programs without stops.
  bool run(const Request& request);

  // The same in pieces, for one caller at a time. The request must stay until the last piece.
  enum class Pause { experts, layer, stopped };
  bool begin(const Request& request);
  // Asks the request.
  bool should_stop() const { return request_->should_stop && request_->should_stop(request_->stop_context); }
  // Runs to the next stop, or to layer `layer` if that comes first.
  Pause advance(size_t layer);
  // The experts that the program waits for, and what enters them. After start_experts() it is not to change.
  const ExpertsStep& waiting_for() const;
  ExpertInput expert_input();
  const float* expert_scores();  // what the router gave all of them, [T, experts]; null where it is not of the program
  bool is_waiting() const { return is_waiting_; }
  void start_experts();
  void apply(std::span<const uint32_t> experts) { experts_.apply(experts); }
  void pass_on();
  // At layer `last` of the request.
  void end();

 private:
  struct Mark {
    size_t step;
    Buffer hidden;
  };

  void touch(Buffer buffer);
  bool passes_marks_alone() const;
  bool passes_a_stop(Buffer buffer) const;
  void find_carried();
  size_t place(bool carried);
  size_t chunk_tokens() const;
  void reserve();
  void find_buffers(size_t first_token, size_t num_tokens);
  void find_segments(size_t first_token, size_t num_tokens);
  Scene scene(size_t first_token, size_t num_tokens);
  Scene whole() { return scene(0, request_->num_tokens); }
  void make_positions();
  void run_steps(size_t begin, size_t end);
  size_t gather_rows();
  void run_head();
  void find_best(const Scene& some, size_t first_row);
  void compare_logits(size_t first_row, size_t num_rows);

  Context context_;
  std::vector<Step> steps_;
  std::vector<Mark> marks_;
  std::vector<size_t> stops_;
  std::vector<Rotary> rotaries_;
  std::vector<LayerNeeds> needs_;
  std::vector<Lifetime> buffers_;
  std::vector<bool> carried_;
  Buffer positions_ = 0, logits_ = 0;
  size_t chunk_numbers_ = 0, carried_numbers_ = 0;
  bool finished_ = false;

  std::mutex in_use_;
  Pages arena_;
  size_t arena_nbytes_ = 0;
  std::vector<float*> addresses_;  // of the buffers, for the tokens that were found last
  size_t found_first_ = 0, found_count_ = 0;
  std::vector<KvSegment> found_segments_;  // of those tokens

  // The run at hand.
  const Request* request_ = nullptr;
  size_t next_ = 0;  // step
  bool is_waiting_ = false;
  ExpertPass experts_;
};

}  // namespace apportion
