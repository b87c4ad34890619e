#include "program.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "best.h"
#include "rope.h"
#include "sample.h"

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
  if (const auto* experts = std::get_if<ExpertsStep>(&step); experts && experts->experts.places) {
    if (experts->scores) touch(*experts->scores);
    stops_.push_back(steps_.size());
  }
  steps_.push_back(std::move(step));
}

void Program::mark(Buffer hidden) {
  touch(hidden);
  marks_.push_back({steps_.size(), hidden});
}

void Program::need_pages(size_t layer, const LayerNeeds& needs) {
  if (needs_.size() <= layer) needs_.resize(layer + 1);
  needs_[layer] = needs;
}

bool Program::passes_marks_alone() const {
  for (Buffer b = 0; b < buffers_.size(); ++b)
    for (const Mark& mark : marks_)
      if (b != mark.hidden && buffers_[b].first < mark.step && buffers_[b].last >= mark.step) return false;
  return true;
}

bool Program::passes_a_stop(Buffer buffer) const {
  const Lifetime& life = buffers_[buffer];
  return std::ranges::any_of(stops_, [&](size_t stop) { return life.first <= stop && life.last >= stop; });
}

void Program::find_carried() {
  carried_.resize(buffers_.size());
  for (Buffer b = 0; b < buffers_.size(); ++b) carried_[b] = buffers_[b].first != kUnused && passes_a_stop(b);
  for (const Mark& mark : marks_) carried_[mark.hidden] = true;
  for (const Rotary& rotary : rotaries_) carried_[rotary.angles] = true;
  carried_[positions_] = true;
}

// Gives places to the buffers that are carried, or to the others; numbers per token that they need together.
size_t Program::place(bool carried) {
  // Logits go straight to the caller, and what is never touched needs no place either.
  std::vector<Lifetime> placed;
  std::vector<Buffer> order;
  for (Buffer b = 0; b < buffers_.size(); ++b)
    if (b != logits_ && buffers_[b].first != kUnused && carried_[b] == carried) {
      placed.push_back(buffers_[b]);
      order.push_back(b);
    }
  const size_t numbers = place_buffers(placed);
  for (size_t i = 0; i < order.size(); ++i) buffers_[order[i]].offset = placed[i].offset;
  return numbers;
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
  find_carried();
  chunk_numbers_ = place(false);
  carried_numbers_ = place(true);
  addresses_.resize(buffers_.size());
  return finished_ = true;
}

const Matrix* Program::split_head() const {
  if (context_.exact || steps_.size() == marks_.back().step) return nullptr;
  const auto* const last = std::get_if<ProjectStep>(&steps_.back());
  if (!last || last->parts.size() != 1) return nullptr;
  const ProjectStep::Part& head = last->parts[0];
  return head.matrix.split && !head.bias && head.out == logits_ ? &head.matrix : nullptr;
}

size_t Program::chunk_tokens() const {
  const size_t num_tokens = request_->num_tokens;
  return request_->chunk ? std::min(request_->chunk, num_tokens) : num_tokens;
}

void Program::reserve() {
  const size_t numbers = carried_numbers_ * request_->num_tokens + chunk_numbers_ * chunk_tokens();
  const size_t nbytes = numbers * sizeof(float);
  if (nbytes <= arena_nbytes_) return;
  arena_.reset();
  arena_nbytes_ = 0;
  arena_ = allocate_pages(nbytes);
  arena_nbytes_ = nbytes;
}

void Program::find_buffers(size_t first_token, size_t num_tokens) {
  const size_t all = request_->num_tokens;
  float* const carried = reinterpret_cast<float*>(arena_.get());
  float* const chunk = carried + carried_numbers_ * all;
  for (size_t b = 0; b < buffers_.size(); ++b)
    addresses_[b] = carried_[b] ? carried + buffers_[b].offset * all + buffers_[b].width * first_token
                                : chunk + buffers_[b].offset * num_tokens;
  find_segments(first_token, num_tokens);
  found_first_ = first_token;
  found_count_ = num_tokens;
}

// The parts of the segments that these tokens are.
void Program::find_segments(size_t first_token, size_t num_tokens) {
  found_segments_.clear();
  const size_t end_token = first_token + num_tokens;
  size_t token = 0;  // the segment's first
  for (const KvSegment& segment : request_->segments) {
    const size_t begin = std::max(token, first_token), end = std::min(token + segment.num_tokens, end_token);
    const size_t before = begin - token;
    if (begin < end)
      found_segments_.push_back({segment.table, segment.start + before, end - begin, segment.position + before});
    token += segment.num_tokens;
  }
}

// The buffers of some tokens: the carried ones where these tokens have their rows.
Scene Program::scene(size_t first_token, size_t num_tokens) {
  if (found_first_ != first_token || found_count_ != num_tokens) find_buffers(first_token, num_tokens);
  const int32_t* ids = request_->ids ? request_->ids + first_token : nullptr;
  return {context_, addresses_, rotaries_, found_segments_, ids, num_tokens};
}

void Program::make_positions() {
  const Scene all = whole();
  int32_t* const positions = reinterpret_cast<int32_t*>(all.at(positions_));
  int32_t* next = positions;
  for (const KvSegment& segment : all.segments)
    for (size_t t = 0; t < segment.num_tokens; ++t) *next++ = int32_t(segment.position + t);
  for (const Rotary& rotary : rotaries_)
    make_angles(context_, {positions, all.num_tokens}, rotary.inv_freq, rotary.scale, all.at(rotary.angles));
}

void Program::run_steps(size_t begin, size_t end) {
  const size_t step = chunk_tokens(), num_tokens = request_->num_tokens;
  for (size_t token = 0; token < num_tokens; token += step) {
    const Scene some = scene(token, std::min(step, num_tokens - token));
    for (size_t i = begin; i < end; ++i) run_step(some, steps_[i]);
  }
}

bool Program::begin(const Request& request) {
  request_ = &request;
  is_waiting_ = false;
  found_count_ = 0;
  reserve();
  next_ = marks_[request.first].step;
  if (request.ids)
    run_steps(0, next_);
  else
    std::memcpy(whole().at(marks_[request.first].hidden), request.x,
                request.num_tokens * hidden_width() * sizeof(float));
  if (request.first < request.last) make_positions();
  return !should_stop();
}

Program::Pause Program::advance(size_t layer) {
  while (next_ < marks_[layer].step) {
    const size_t mark = std::ranges::upper_bound(marks_, next_, {}, &Mark::step)->step;
    const auto stop = std::ranges::lower_bound(stops_, next_);
    const size_t until = stop == stops_.end() ? mark : std::min(mark, *stop);
    if (should_stop()) return Pause::stopped;
    run_steps(next_, until);
    next_ = until;
    if (stop != stops_.end() && until == *stop) {
      is_waiting_ = true;
      return Pause::experts;
    }
  }
  return Pause::layer;
}

const ExpertsStep& Program::waiting_for() const { return std::get<ExpertsStep>(steps_[next_]); }

ExpertInput Program::expert_input() { return input_of(whole(), waiting_for()); }

const float* Program::expert_scores() {
  const std::optional<Buffer> scores = waiting_for().scores;
  return scores ? whole().at(*scores) : nullptr;
}

void Program::start_experts() {
  const ExpertsStep& step = waiting_for();
  const Scene all = whole();
  experts_.begin(context_, input_of(all, step), step.experts, step.kind, all.at(step.out));
}

void Program::pass_on() {
  experts_.end();
  is_waiting_ = false;
  ++next_;
}

void Program::end() {
  const bool logits = request_->want != Want::hidden && request_->want != Want::some_hidden;
  if (logits) return run_head();
  const size_t num_rows = request_->want == Want::hidden ? request_->num_tokens : gather_rows();
  const float* const hidden = whole().at(marks_[request_->last].hidden);
  std::memcpy(request_->out, hidden, num_rows * hidden_width() * sizeof(float));
}

// Moves the hidden states of tokens of which something is wanted to the front; returns how many they are.
size_t Program::gather_rows() {
  if (request_->want == Want::all) return request_->num_tokens;
  const size_t width = hidden_width();
  float* const hidden = whole().at(marks_.back().hidden);
  size_t count = 0;
  const auto keep = [&](size_t token) {
    if (token != count) std::memcpy(hidden + count * width, hidden + token * width, width * sizeof(float));
    ++count;
  };
  size_t token = 0;
  if (request_->want == Want::some || request_->want == Want::some_hidden)
    for (const int32_t row : request_->rows) keep(size_t(row));
  else if (request_->segments.empty())
    keep(request_->num_tokens - 1);
  else
    for (const KvSegment& segment : request_->segments) keep((token += segment.num_tokens) - 1);
  return count;
}

void Program::run_head() {
  const size_t num_rows = gather_rows();
  const bool by_bounds = !request_->out, compares = request_->best && !by_bounds;
  const size_t step = compares ? std::min(chunk_tokens(), request_->room) : chunk_tokens();
  for (size_t row = 0; row < num_rows; row += step) {
    const Scene some = scene(row, std::min(step, num_rows - row));
    if (!by_bounds) addresses_[logits_] = request_->out + (compares ? 0 : row * logits_width());
    for (size_t i = marks_.back().step; i < steps_.size() - by_bounds; ++i) run_step(some, steps_[i]);
    if (by_bounds) find_best(some, row);
    if (compares) compare_logits(row, some.num_tokens);
  }
}

// In place of the last step, the head's product.
void Program::find_best(const Scene& some, size_t first_row) {
  BestOf& best = *request_->best;
  const float* const x = some.at(std::get<ProjectStep>(steps_.back()).x);
  best.num_whole += find_best_rows(context_, x, some.num_tokens, *split_head(), best.num_logits, best.without,
                                   &best.values[first_row], &best.ids[first_row]);
}

void Program::compare_logits(size_t first_row, size_t num_rows) {
  BestOf& best = *request_->best;
  for (size_t i = 0; i < num_rows; ++i) {
    const size_t row = first_row + i;
    const std::span<float> logits(request_->out + i * logits_width(), best.num_logits);
    for (const int32_t id : best.without)
      if (size_t(id) < logits.size()) logits[size_t(id)] = -std::numeric_limits<float>::infinity();
    best.ids[row] = int32_t(apportion::find_best(*context_.kernels, logits));
    best.values[row] = logits[size_t(best.ids[row])];
  }
}

bool Program::run(const Request& request) {
  const std::lock_guard lock(in_use_);
  if (!begin(request) || advance(request.last) != Pause::layer) return false;
  end();
  return true;
}

}  // namespace apportion
