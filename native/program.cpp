#include "program.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "rope.h"

namespace apportion {

namespace {

constexpr size_t kUnused = std::numeric_limits<size_t>::max();

}  // namespace

Buffer Program::make(size_t width) {
  buffers_.push_back({width, kUnused, 0});
  return Buffer(buffers_.size() - 1);
}

size_t Program::add_rotary(std::span<const float> inv_freq, bool interleaved, float scale) {
  rotaries_.push_back({inv_freq, interleaved, scale, make(2 * inv_freq.size())});
  return rotaries_.size() - 1;
}

void Program::touch(Buffer buffer) {
  Lifetime& life = buffers_[buffer];
  life.first = std::min(life.first, steps_.size());
  life.last = steps_.size();
}

void Program::add(Step step, std::initializer_list<Buffer> touched) {
  for (Buffer buffer : touched) touch(buffer);
  if (const auto* project = std::get_if<ProjectStep>(&step))
    for (const ProjectStep::Part& part : project->parts) touch(part.out);
  steps_.push_back(std::move(step));
}

void Program::mark(Buffer hidden) {
  touch(hidden);
  marks_.push_back({steps_.size(), hidden});
}

void Program::need_cache(size_t layer, const CacheShape& shape) {
  if (cache_shapes_.size() <= layer) cache_shapes_.resize(layer + 1);
  cache_shapes_[layer] = shape;
}

bool Program::passes_marks_alone() const {
  for (Buffer b = 0; b < buffers_.size(); ++b)
    for (const Mark& mark : marks_)
      if (b != mark.hidden && buffers_[b].first < mark.step && buffers_[b].last >= mark.step) return false;
  return true;
}

bool Program::finish(Buffer logits) {
  if (!passes_marks_alone()) return false;
  logits_ = logits;
  const auto keep = [&](Buffer buffer) {  // from the first step to the last
    buffers_[buffer].first = 0;
    buffers_[buffer].last = steps_.size();
  };
  positions_ = make(1);
  keep(positions_);
  for (const Rotary& rotary : rotaries_) keep(rotary.angles);
  // Logits go straight to the caller, and what is never touched needs no place either.
  std::vector<Lifetime> placed;
  std::vector<Buffer> order;
  for (Buffer b = 0; b < buffers_.size(); ++b)
    if (b != logits_ && buffers_[b].first != kUnused) {
      placed.push_back(buffers_[b]);
      order.push_back(b);
    }
  numbers_per_token_ = place_buffers(placed);
  for (size_t i = 0; i < order.size(); ++i) buffers_[order[i]].offset = placed[i].offset;
  addresses_.resize(buffers_.size());
  return finished_ = true;
}

void Program::reserve(size_t num_tokens) {
  if (num_tokens <= arena_tokens_) return;
  arena_.reset();
  arena_tokens_ = 0;
  arena_ = allocate_pages(num_tokens * numbers_per_token_ * sizeof(float));
  arena_tokens_ = num_tokens;
}

void Program::find_buffers(size_t num_tokens) {
  float* arena = reinterpret_cast<float*>(arena_.get());
  for (size_t b = 0; b < buffers_.size(); ++b) addresses_[b] = arena + buffers_[b].offset * num_tokens;
}

void Program::make_positions(const Scene& scene) {
  int32_t* positions = reinterpret_cast<int32_t*>(scene.at(positions_));
  for (size_t t = 0; t < scene.num_tokens; ++t) positions[t] = int32_t(scene.start + t);
  for (const Rotary& rotary : rotaries_)
    make_angles(context_, {positions, scene.num_tokens}, rotary.inv_freq, rotary.scale, scene.at(rotary.angles));
}

void Program::run_steps(const Scene& scene, size_t begin, size_t end) const {
  for (size_t i = begin; i < end; ++i) run_step(scene, steps_[i]);
}

bool Program::run_layers(const Scene& scene, const Request& request) const {
  for (size_t layer = request.first; layer < request.last; ++layer) {
    if (request.should_stop && request.should_stop(request.stop_context)) return false;
    run_steps(scene, marks_[layer].step, marks_[layer + 1].step);
  }
  return true;
}

void Program::run_head(Scene scene, const Request& request) {
  addresses_[logits_] = request.out;
  if (request.want == Want::last) {
    const Buffer hidden = marks_.back().hidden;
    addresses_[hidden] += (scene.num_tokens - 1) * width(hidden);
    scene.num_tokens = 1;
  }
  run_steps(scene, marks_.back().step, steps_.size());
}

bool Program::run(const Request& request) {
  const std::lock_guard lock(in_use_);
  reserve(request.num_tokens);
  find_buffers(request.num_tokens);
  const Scene scene{context_, addresses_, rotaries_, request.caches, request.ids, request.num_tokens, request.start};
  const size_t hidden_nbytes = request.num_tokens * hidden_width() * sizeof(float);
  if (request.ids)
    run_steps(scene, 0, marks_[0].step);
  else
    std::memcpy(scene.at(marks_[request.first].hidden), request.x, hidden_nbytes);
  if (request.first < request.last) make_positions(scene);
  if (!run_layers(scene, request)) return false;
  if (request.want == Want::hidden)
    std::memcpy(request.out, scene.at(marks_[request.last].hidden), hidden_nbytes);
  else
    run_head(scene, request);
  return true;
}

}  // namespace apportion
