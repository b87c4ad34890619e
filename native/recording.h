// Recording a program from Python: arrays become checked weights, which stay alive as long as the program.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "bind_expert_table.h"
#include "program.h"

namespace apportion {

// (data, ggml type, shape, bias or None)
using Weight = nanobind::tuple;

class Recording {
 public:
  Recording(const std::string& isa, unsigned threads, bool exact);
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  Buffer embed(const Weight& table, float scale);
  // Hidden states that callers bring: instead of embed.
  Buffer input(size_t width);
  Buffer rms_norm(Buffer x, nanobind::handle weight, float eps);
  void add(Buffer x, Buffer y, float scale, nanobind::handle weight, float eps);
  void add_gated(Buffer x, Buffer y, Buffer gate);
  void bound(Buffer x, float scale, float cap);
  std::vector<Buffer> project(Buffer x, const std::vector<Weight>& weights);
  void add_product(Buffer x, const Weight& weight, Buffer to, float scale);
  Buffer gated(Buffer x, const Weight& gate, const Weight& up, int kind);
  Buffer project_heads(Buffer x, const Weight& weight, size_t keep);
  size_t add_rotary(nanobind::handle inv_freq, bool interleaved, float scale);
  Buffer attend(Buffer q, Buffer k, std::optional<Buffer> v, size_t layer, size_t num_heads, size_t num_kv_heads,
                size_t head_dim, size_t value_dim, size_t rotary, size_t rotated_from, nanobind::handle q_norm,
                nanobind::handle k_norm, float eps, float clip, float scale, size_t window, float softcap,
                nanobind::handle sinks);
  std::pair<Buffer, Buffer> route(Buffer logits, nanobind::handle bias, size_t top_k, int score, bool normalize,
                                  float scale, size_t num_groups, size_t top_groups, bool top2_groups);
  Buffer experts(Buffer x, Buffer ids, Buffer weights, const Weight& gate, const Weight& up, const Weight& down,
                 int kind, nanobind::handle table);
  void mark(Buffer hidden);
  void finish(Buffer logits);

  size_t nbytes_per_token() const { return program_.nbytes_per_token(); }
  size_t nbytes_carried() const { return program_.nbytes_carried(); }

 protected:
  // Who brings the experts that the program waits for; null where they are just put into their table.
  ExpertShelf* waiting_shelf() const;

  Program program_;
  size_t num_embeddings_ = 0;

 private:
  void require_open() const;
  size_t width_of(Buffer buffer) const;
  const View& keep(nanobind::handle array, const char* name, const char* types);
  const float* floats(nanobind::handle array, const char* name, size_t size);
  Matrix matrix(const Weight& weight, size_t ndim);
  Matrix factor(Buffer x, const Weight& weight, size_t ndim = 2);
  const float* bias(const Weight& weight, size_t size);
  HeadNorm head_norm(nanobind::handle weight, size_t width, size_t head_dim);

  std::vector<std::unique_ptr<View>> kept_;
  std::map<const ExpertPlace*, std::shared_ptr<ExpertTable>> tables_;  // by where their places are
  std::map<Buffer, Buffer> routed_;                                    // ids -> the scores that they were chosen by
  std::vector<size_t> pairs_;                                          // of each rotary
};

}  // namespace apportion
