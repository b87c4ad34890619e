#include "bind_program.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <map>

#include "arguments.h"
#include "bind_expert_table.h"
#include "bind_kv.h"
#include "cpu.h"
#include "program.h"
#include "project.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

// (data, ggml type, shape, bias or None)
using Weight = nb::tuple;

class Recorder {
 public:
  Recorder(const std::string& isa, unsigned threads, bool exact) : program_({find_kernels(isa), threads, exact}) {
    require(find_kernels(isa), "this instruction set is unknown or not available here");
    require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
  }

  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  Buffer embed(const Weight& table_, float scale) {
    require_open();
    const Matrix table = matrix(table_, 2);
    num_embeddings_ = table.rows;
    const Buffer out = program_.make(table.cols);
    program_.add(EmbedStep{table, scale, out}, {out});
    return out;
  }

  // Hidden states that callers bring: instead of embed.
  Buffer input(size_t width) {
    require_open();
    require(width > 0, "hidden states need a width");
    return program_.make(width);
  }

  Buffer rms_norm(Buffer x, nb::handle weight, float eps) {
    const size_t width = width_of(x);
    const float* numbers = floats(weight, "weight", width);
    const Buffer out = program_.make(width);
    program_.add(NormStep{x, out, numbers, width, eps}, {x, out});
    return out;
  }

  void add(Buffer x, Buffer y, float scale, nb::handle weight, float eps) {
    const size_t width = width_of(x);
    require(width_of(y) == width, "x and y differ in width");
    const float* numbers = weight.is_none() ? nullptr : floats(weight, "weight", width);
    program_.add(AddStep{x, y, numbers, width, eps, scale}, {x, y});
  }

  void add_gated(Buffer x, Buffer y, Buffer gate) {
    const size_t width = width_of(x);
    require(width_of(y) == width && width_of(gate) == 1, "y must be as wide as x, and a gate one number");
    program_.add(AddGatedStep{x, y, gate, width}, {x, y, gate});
  }

  void bound(Buffer x, float scale, float cap) { program_.add(BoundStep{x, width_of(x), scale, cap}, {x}); }

  std::vector<Buffer> project(Buffer x, const std::vector<Weight>& weights) {
    require(!weights.empty() && weights.size() <= kMostProducts, "too many products, or none");
    ProjectStep step{x, {}};
    std::vector<Buffer> outs;
    for (const Weight& weight : weights) {
      const Matrix m = factor(x, weight);
      outs.push_back(program_.make(m.rows));
      step.parts.push_back({m, bias(weight, m.rows), outs.back(), false, 1.0f});
    }
    program_.add(std::move(step), {x});
    return outs;
  }

  void add_product(Buffer x, const Weight& weight, Buffer to, float scale) {
    const Matrix m = factor(x, weight);
    require(width_of(to) == m.rows, "the sum differs from the product in width");
    program_.add(ProjectStep{x, {{m, bias(weight, m.rows), to, true, scale}}}, {x});
  }

  Buffer gated(Buffer x, const Weight& gate_, const Weight& up_, int kind) {
    const Matrix gate = factor(x, gate_), up = factor(x, up_);
    require(gate.rows == up.rows, "gate and up differ in rows");
    const GateKind known = gate_kind(kind);
    const Buffer out = program_.make(gate.rows);
    program_.add(GatedStep{x, out, gate, up, known}, {x, out});
    return out;
  }

  Buffer project_heads(Buffer x, const Weight& weight, size_t keep) {
    const Matrix first = matrix(weight, 3);
    const size_t num_heads = count_of(weight);
    require(width_of(x) == num_heads * (first.cols + keep), "x is not as wide as the heads together");
    const Buffer out = program_.make(num_heads * (first.rows + keep));
    program_.add(HeadsStep{x, out, first, num_heads, keep}, {x, out});
    return out;
  }

  size_t add_rotary(nb::handle inv_freq, bool interleaved, float scale) {
    require_open();
    const View& view = keep(inv_freq, "inv_freq", kFloat).of_ndim(1).contiguous();
    require(view.size() > 0, "inv_freq is empty");
    pairs_.push_back(view.size());
    return program_.add_rotary({view.data<const float>(), view.size()}, interleaved, scale);
  }

  Buffer attend(Buffer q, Buffer k, std::optional<Buffer> v, size_t layer, size_t num_heads, size_t num_kv_heads,
                size_t head_dim, size_t value_dim, size_t rotary, size_t rotated_from, nb::handle q_norm,
                nb::handle k_norm, float eps, float clip, float scale, size_t window, float softcap, nb::handle sinks) {
    require(num_kv_heads > 0 && head_dim > 0 && num_heads % num_kv_heads == 0,
            "query heads must be a multiple of key-value heads");
    require(width_of(q) == num_heads * head_dim && width_of(k) == num_kv_heads * head_dim &&
                (!v || width_of(*v) == num_kv_heads * value_dim),
            "q, k or v is not as wide as its heads together");
    require(rotary < pairs_.size() && rotated_from + 2 * pairs_[rotary] <= head_dim,
            "inv_freq has more frequencies than a head has pairs");
    const float* sink_logits = sinks.is_none() ? nullptr : floats(sinks, "sinks", num_heads);
    const KvShape shape{num_kv_heads, head_dim, value_dim, !v};
    const PlaceStep placing{q,
                            k,
                            v,
                            layer,
                            rotary,
                            num_heads,
                            shape,
                            head_norm(q_norm, num_heads * head_dim, head_dim),
                            head_norm(k_norm, num_kv_heads * head_dim, head_dim),
                            eps,
                            clip,
                            rotated_from};
    program_.need_pages(layer, {shape, window > 0});
    program_.add(placing, {q, k, v.value_or(k)});
    const Buffer out = program_.make(num_heads * value_dim);
    program_.add(AttendStep{q, out, layer, num_heads, shape, window, scale, softcap, sink_logits}, {q, out});
    return out;
  }

  std::pair<Buffer, Buffer> route(Buffer logits, nb::handle bias, size_t top_k, int score, bool normalize, float scale,
                                  size_t num_groups, size_t top_groups, bool top2_groups) {
    const Routing routing =
        routing_of(width_of(logits), top_k, score, normalize, scale, num_groups, top_groups, top2_groups);
    const float* numbers = bias.is_none() ? nullptr : floats(bias, "bias", width_of(logits));
    const Buffer ids = program_.make(top_k), weights = program_.make(top_k);
    program_.add(RouteStep{logits, ids, weights, width_of(logits), numbers, routing}, {logits, ids, weights});
    routed_.emplace(ids, logits);
    return {ids, weights};
  }

  Buffer experts(Buffer x, Buffer ids, Buffer weights, const Weight& gate, const Weight& up, const Weight& down,
                 int kind, nb::handle table_) {
    const size_t count = count_of(gate);
    const ExpertTable* table = table_.is_none() ? nullptr : &table_from(table_);
    if (table) tables_.push_back(nb::borrow(table_));
    require(!table || table->count() == count, "the table has another number of experts");
    const auto stack = [&](const Weight& weight, size_t which) {
      return table ? table->matrix(which) : matrix(weight, 3);
    };
    const Matrix g = stack(gate, 0), u = stack(up, 1), d = stack(down, 2);
    require(width_of(x) == g.cols && width_of(x) == u.cols, "x is not as wide as the experts");
    require(count_of(up) == count && count_of(down) == count, "gate, up and down differ in experts");
    require(u.rows == g.rows && d.cols == g.rows && d.rows == g.cols, "gate, up and down differ in sizes");
    require(width_of(ids) == width_of(weights), "ids and weights differ in width");
    const Experts experts{count,
                          g,
                          u,
                          d,
                          bias(gate, count * g.rows),
                          bias(up, count * u.rows),
                          bias(down, count * d.rows),
                          table ? table->places() : nullptr};
    const GateKind known = gate_kind(kind);
    const Buffer out = program_.make(d.rows);
    std::optional<Buffer> scores;
    if (const auto routed = routed_.find(ids); routed != routed_.end()) scores = routed->second;
    program_.add(ExpertsStep{x, ids, weights, out, scores, width_of(ids), experts, known}, {x, ids, weights, out});
    return out;
  }

  void mark(Buffer hidden) {
    width_of(hidden);
    program_.mark(hidden);
  }

  void finish(Buffer logits) {
    width_of(logits);
    require(program_.finish(logits), "a value other than the hidden states passes from one layer to another");
  }

  size_t nbytes_per_token() const { return program_.nbytes_per_token(); }
  size_t nbytes_carried() const { return program_.nbytes_carried(); }

  // What is wanted is written to `out`. Of logits the largest alone may be asked for, `of` a limit and ids to leave
  // out: then its ids are the result, the logits, and the share of the head that was multiplied whole. Without room for
  // logits they are found by bounds.
  nb::object run(nb::handle segments, nb::handle source, size_t first, size_t last, int want, nb::handle rows,
                 nb::handle out, nb::handle of) {
    require(!program_.has_stops() || first == last, "this program has to be run in pieces");
    Going going(*this, segments, source, first, last, want, rows, out, of);
    bool complete = false;
    {
      Unlocked unlocked;
      complete = program_.run(going.request);
    }
    if (!complete) throw nb::python_error();
    return answer(going);
  }

  // --- in pieces ---

  void begin(nb::handle segments, nb::handle source, size_t first, size_t last, int want, nb::handle rows,
             nb::handle out, nb::handle of, size_t chunk) {
    going_.reset();
    started_ = false;
    auto going = std::make_unique<Going>(*this, segments, source, first, last, want, rows, out, of);
    going->request.chunk = chunk;
    bool complete = false;
    {
      Unlocked unlocked;
      complete = program_.begin(going->request);
    }
    if (!complete) throw nb::python_error();
    going_ = std::move(going);
  }

  // Whether the program waits for experts; otherwise it has come to `layer`. A single token may pass layers whose
  // chosen experts are all in memory: `passed` tells them.
  bool advance(size_t layer, bool may_pass) {
    require(going_ && !program_.is_waiting(), "no run is under way, or it waits for experts");
    require(layer <= going_->request.last, "the run ends before this layer");
    require(!may_pass || going_->request.num_tokens == 1, "experts of many tokens come in parts");
    Program::Pause pause;
    {
      Unlocked unlocked;
      do pause = program_.advance(layer);
      while (pause == Program::Pause::experts && may_pass && pass_experts());
    }
    if (pause == Program::Pause::stopped) throw nb::python_error();
    return pause == Program::Pause::experts;
  }

  // The experts of the layers that the token passed since this was asked last.
  nb::list passed() {
    require(bool(going_), "no run is under way");
    Desk& desk = *going_->desk;
    nb::list layers;
    size_t i = 0;
    for (const size_t end : desk.passed_ends) {
      nb::list experts;
      for (; i < end; ++i) experts.append(desk.passed[i]);
      layers.append(experts);
    }
    desk.passed.clear();
    desk.passed_ends.clear();
    return layers;
  }

  // The chosen experts of the tokens, [T, R].
  void chosen(nb::handle ids_) {
    const ExpertInput input = waiting_input();
    const View ids(ids_, "ids", kInt, Access::write);
    ids.of_ndim(2).contiguous();
    require(ids.dim(0) == input.num_tokens && ids.dim(1) == input.per_token, "ids have the wrong shape");
    std::copy_n(input.ids, ids.size(), ids.data<int32_t>());
  }

  // Other experts in their place: routes that were recorded, with the weights of those that the router chose.
  void choose(nb::handle ids_) {
    const ExpertInput input = waiting_input();
    require(!started_, "the experts have been started");
    const View ids(ids_, "ids", kInt);
    ids.of_ndim(2).contiguous();
    require(ids.dim(0) == input.num_tokens && ids.dim(1) == input.per_token, "ids have the wrong shape");
    const int32_t* chosen = ids.data<const int32_t>();
    for (size_t i = 0; i < ids.size(); ++i)
      require(chosen[i] >= 0 && size_t(chosen[i]) < program_.waiting_for().experts.count, "no such expert");
    std::copy_n(chosen, ids.size(), const_cast<int32_t*>(input.ids));
  }

  // The choice is made: experts may be applied.
  void start_experts() {
    waiting_input();
    next_expert_ = 0;
    started_ = true;
    Unlocked unlocked;
    program_.start_experts();
  }

  // What the router saw and gave: the experts' input [T, H], the weights of the chosen [T, R], all scores [T, E].
  void router_view(nb::handle x_, nb::handle weights_, nb::handle scores_) {
    const ExpertInput input = waiting_input();
    const View x(x_, "x", kFloat, Access::write), weights(weights_, "weights", kFloat, Access::write),
        scores(scores_, "scores", kFloat, Access::write);
    for (const View* view : {&x, &weights, &scores}) view->of_ndim(2).contiguous();
    const Experts& experts = program_.waiting_for().experts;
    const size_t width = experts.gate.cols;
    const float* kept = program_.expert_scores();
    require(kept, "the experts were not chosen by this program's router");
    require(scores.dim(0) == input.num_tokens && scores.dim(1) == experts.count, "scores have the wrong shape");
    require(x.dim(0) == input.num_tokens && x.dim(1) == width, "x has the wrong shape");
    require(weights.dim(0) == input.num_tokens && weights.dim(1) == input.per_token, "weights have the wrong shape");
    std::copy_n(input.x, x.size(), x.data<float>());
    std::copy_n(input.weights, weights.size(), weights.data<float>());
    std::copy_n(kept, scores.size(), scores.data<float>());
  }

  void apply(const std::vector<uint32_t>& experts) {
    const ExpertInput input = waiting_input();
    require(started_, "the experts have not been started");
    const Experts& known = program_.waiting_for().experts;
    for (size_t i = 0; i < experts.size(); ++i) {
      require(experts[i] < known.count && known.places[experts[i]].gate, "the expert is not in memory");
      require(input.num_tokens == 1 || experts[i] >= next_expert_, "experts of many tokens come in order");
      next_expert_ = experts[i] + 1;
    }
    Unlocked unlocked;
    program_.apply(experts);
  }

  // All experts that the tokens chose were applied.
  void pass_on() {
    waiting_input();
    require(started_, "the experts have not been started");
    started_ = false;
    Unlocked unlocked;
    program_.pass_on();
  }

  nb::object end() {
    require(going_ && !program_.is_waiting(), "no run is under way, or it waits for experts");
    {
      Unlocked unlocked;
      program_.end();
    }
    const std::unique_ptr<Going> ended = std::move(going_);
    return answer(*ended);
  }

 private:
  // Applies the experts that the only token chose, if all of them are in memory.
  bool pass_experts() {
    const Experts& known = program_.waiting_for().experts;
    const ExpertInput input = program_.expert_input();
    const std::span<const int32_t> ids(input.ids, input.per_token);
    if (!std::ranges::all_of(ids, [&](int32_t id) { return known.places[id].gate; })) return false;
    Desk& desk = *going_->desk;
    desk.passed.insert(desk.passed.end(), ids.begin(), ids.end());
    desk.passed_ends.push_back(desk.passed.size());
    program_.start_experts();
    program_.apply(std::span(desk.passed).last(ids.size()));
    program_.pass_on();
    return true;
  }

  // Lets Python see signals now and then, so that Ctrl-C does not wait for a long prompt.
  struct Patience {
    using Clock = std::chrono::steady_clock;
    Clock::time_point asked = Clock::now();

    static bool is_over(void* self_) {
      Patience& self = *static_cast<Patience*>(self_);
      const Clock::time_point now = Clock::now();
      if (now - self.asked < std::chrono::milliseconds(50)) return false;
      self.asked = now;
      const nb::gil_scoped_acquire locked;
      return PyErr_CheckSignals() != 0;
    }
  };

  // What a run needs room for. Used again and again, so that steady work allocates nothing.
  struct Desk {
    Batch batch;
    std::vector<float> values;
    std::vector<int32_t> ids, without;
    std::vector<uint32_t> passed;     // experts, of one layer after the other
    std::vector<size_t> passed_ends;  // of each layer's
  };

  struct GiveBack {
    std::vector<std::unique_ptr<Desk>>* idle;

    void operator()(Desk* desk) const {
      desk->batch.end();
      desk->passed.clear();
      desk->passed_ends.clear();
      idle->emplace_back(desk);
    }
  };
  using LentDesk = std::unique_ptr<Desk, GiveBack>;

  LentDesk lend_desk(nb::handle segments) {
    if (idle_desks_.empty()) idle_desks_.push_back(std::make_unique<Desk>());
    LentDesk desk(idle_desks_.back().release(), GiveBack{&idle_desks_});
    idle_desks_.pop_back();
    if (!segments.is_none()) desk->batch.begin(nb::cast<nb::sequence>(segments));
    return desk;
  }

  // A run, and what it reads and writes.
  struct Going {
    Going(Recorder& self, nb::handle segments, nb::handle source, size_t first, size_t last, int want, nb::handle rows_,
          nb::handle out_, nb::handle of)
        : desk(self.lend_desk(segments)), in(source, "source", "fi"), rows(rows_, "rows", kInt) {
      request = self.checked_request(desk->batch, in, first, last, want, rows);
      if (!out_.is_none()) self.write_to(out.emplace(out_, "out", kFloat, Access::write), request);
      if (!of.is_none())
        self.ask_for_best(nb::cast<nb::tuple>(of), *this);
      else
        require(bool(out), "out is missing");
      request.should_stop = &Patience::is_over;
      request.stop_context = &patience;
    }
    Going(const Going&) = delete;
    Going& operator=(const Going&) = delete;

    LentDesk desk;
    View in;
    OptionalView rows;
    std::optional<View> out;
    Request request{};
    BestOf best{};
    Patience patience;
  };

  Request checked_request(const Batch& batch, const View& in, size_t first, size_t last, int want_,
                          const OptionalView& rows) const {
    require(program_.finished(), "the program is not finished");
    require(want_ >= 0 && want_ <= 4, "no such result");
    const Want want = Want(want_);
    const bool is_ids = in.type() == kInt[0];
    in.of_ndim(is_ids ? 1 : 2).contiguous();
    Request request{};
    request.num_tokens = in.dim(0);
    require(request.num_tokens > 0, "there are no tokens");
    require(first <= last && last <= program_.num_layers(), "there are no such layers");
    require(!is_ids || (first == 0 && num_embeddings_), "tokens enter before the first layer, where they are embedded");
    const bool is_some = want == Want::some || want == Want::some_hidden;
    require(want == Want::hidden || last == program_.num_layers(), "logits need the last layer");
    require(is_ids || in.dim(1) == program_.hidden_width(), "hidden states have another width");
    if (is_ids)
      check_ids(request.ids = in.data<const int32_t>(), request.num_tokens);
    else
      request.x = in.data<const float>();
    request.first = first;
    request.last = last;
    request.want = want;
    request.segments = batch.segments();
    if (is_some) request.rows = checked_rows(rows, request.num_tokens);
    check_batch(batch, request);
    return request;
  }

  void write_to(const View& out, Request& request) const {
    const bool is_hidden = request.want == Want::hidden || request.want == Want::some_hidden;
    out.of_ndim(2).contiguous();
    require(out.dim(0) == num_wanted(request) &&
                out.dim(1) == (is_hidden ? program_.hidden_width() : program_.logits_width()),
            "out has the wrong shape");
    request.out = out.data<float>();
  }

  void ask_for_best(const nb::tuple& of, Going& going) const {
    Request& request = going.request;
    require(of.size() == 2, "the best is of logits below a limit, without some");
    require(request.want != Want::hidden && request.want != Want::some_hidden, "the best is one of logits");
    require(going.out || program_.split_head(), "bounds are of a split head, and of rounded activations");
    const size_t limit = nb::cast<size_t>(of[0]);
    require(limit > 0, "no logits are left");
    Desk& desk = *going.desk;
    desk.without.clear();
    for (const nb::handle id : nb::cast<nb::sequence>(of[1])) desk.without.push_back(nb::cast<int32_t>(id));
    require(desk.without.empty() || desk.without.front() >= 0, "ids to leave out must not be negative");
    require(std::ranges::is_sorted(desk.without), "ids to leave out must be in order");
    desk.values.resize(num_wanted(request));
    desk.ids.resize(desk.values.size());
    going.best = {std::min(limit, program_.logits_width()), desk.without, desk.values, desk.ids};
    request.best = &going.best;
  }

  nb::object answer(const Going& going) const {
    if (!going.request.best) return nb::none();
    nb::list ids, values;
    for (const int32_t id : going.best.ids) ids.append(id);
    for (const float value : going.best.values) values.append(value);
    if (going.out) return nb::make_tuple(ids, values, 1.0);
    const size_t num_panels = going.best.ids.size() * program_.split_head()->num_panels();
    return nb::make_tuple(ids, values, double(going.best.num_whole) / double(num_panels));
  }

  static size_t num_wanted(const Request& request) {
    switch (request.want) {
      case Want::last: return std::max<size_t>(1, request.segments.size());
      case Want::some:
      case Want::some_hidden: return request.rows.size();
      default: return request.num_tokens;
    }
  }

  static std::span<const int32_t> checked_rows(const OptionalView& rows, size_t num_tokens) {
    const std::span<const int32_t> numbers = rows.numbers<int32_t>();
    require(!numbers.empty(), "rows are missing");
    for (size_t i = 0; i < numbers.size(); ++i)
      require(numbers[i] >= 0 && size_t(numbers[i]) < num_tokens && (!i || numbers[i - 1] < numbers[i]),
              "rows must be tokens of the run in ascending order");
    return numbers;
  }

  ExpertInput waiting_input() {
    require(going_ && program_.is_waiting(), "the program does not wait for experts");
    return program_.expert_input();
  }

  void require_open() const { require(!program_.finished(), "the program is finished"); }

  size_t width_of(Buffer buffer) const {
    require_open();
    require(buffer < program_.num_buffers(), "no such buffer");
    return program_.width(buffer);
  }

  const View& keep(nb::handle array, const char* name, const char* types) {
    kept_.push_back(std::make_unique<View>(array, name, types));
    return *kept_.back();
  }

  const float* floats(nb::handle array, const char* name, size_t size) {
    const View& view = keep(array, name, kFloat).contiguous();
    if (view.size() != size) refuse(std::string(name) + " must have " + std::to_string(size) + " numbers");
    return view.data<const float>();
  }

  static std::vector<size_t> shape_of(const Weight& weight) { return nb::cast<std::vector<size_t>>(weight[2]); }

  static size_t count_of(const Weight& weight) { return shape_of(weight)[0]; }

  // The weight's matrix, or the first of its stack.
  Matrix matrix(const Weight& weight, size_t ndim) {
    require_open();
    require(weight.size() == 4, "a weight is data, type, shape and bias");
    const std::vector<size_t> shape = shape_of(weight);
    require(shape.size() == ndim, "the weight has the wrong number of dimensions");
    const View& data = keep(weight[0], "weight", kByte);
    return matrix_of(data, nb::cast<int>(weight[1]), ndim == 3 ? shape[0] : 1, shape[ndim - 2], shape[ndim - 1]);
  }

  Matrix factor(Buffer x, const Weight& weight, size_t ndim = 2) {
    const Matrix m = matrix(weight, ndim);
    require(width_of(x) == m.cols, "x is not as wide as the weight");
    return m;
  }

  const float* bias(const Weight& weight, size_t size) {
    return weight[3].is_none() ? nullptr : floats(weight[3], "bias", size);
  }

  // A norm of each head or of all, by the weight's size; of a part of each head if it is smaller.
  HeadNorm head_norm(nb::handle weight, size_t width, size_t head_dim) {
    if (weight.is_none()) return {nullptr, 0, 1};
    const View& view = keep(weight, "norm", kFloat).of_ndim(1).contiguous();
    const size_t period = std::max(head_dim, view.size());
    require(view.size() > 0 && width % period == 0, "the heads are not whole runs of the norm's width");
    return {view.data<const float>(), view.size(), period};
  }

  void check_ids(const int32_t* ids, size_t count) const {
    for (size_t t = 0; t < count; ++t)
      if (ids[t] < 0 || size_t(ids[t]) >= num_embeddings_)
        refuse("id " + std::to_string(ids[t]) + " is outside a table of " + std::to_string(num_embeddings_) + " rows");
  }

  void check_batch(const Batch& batch, const Request& request) const {
    require(request.segments.empty() || batch.num_tokens() == request.num_tokens,
            "the segments have another number of tokens");
    const auto needs = program_.needs();
    if (request.first == request.last || needs.empty()) return;
    require(!request.segments.empty(), "layers need tables of keys and values");
    for (const SequenceTable* table : batch.tables()) {
      require(table->num_layers() == needs.size(), "the pages are of another number of layers");
      for (size_t layer = 0; layer < needs.size(); ++layer) table->check(layer, needs[layer].shape);
    }
    for (size_t layer = 0; layer < needs.size(); ++layer)
      if (needs[layer].windowed) batch.require_whole(layer);
  }

  Program program_;
  std::vector<std::unique_ptr<View>> kept_;
  std::vector<nb::object> tables_;
  std::map<Buffer, Buffer> routed_;  // ids -> the scores that they were chosen by
  std::vector<std::unique_ptr<Desk>> idle_desks_;
  std::unique_ptr<Going> going_;
  uint32_t next_expert_ = 0;  // of many tokens
  bool started_ = false;
  std::vector<size_t> pairs_;  // of each rotary
  size_t num_embeddings_ = 0;
};

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<Recorder>(m, "Program", "A forward pass, recorded step by step, then run in one call.")
      .def(nb::init<const std::string&, unsigned, bool>(), nb::arg("isa"), nb::arg("threads"), nb::arg("exact"))
      .def("embed", &Recorder::embed)
      .def("input", &Recorder::input)
      .def("rms_norm", &Recorder::rms_norm)
      .def("add", &Recorder::add, nb::arg("x"), nb::arg("y"), nb::arg("scale"), nb::arg("weight").none(),
           nb::arg("eps"))
      .def("add_gated", &Recorder::add_gated)
      .def("bound", &Recorder::bound)
      .def("project", &Recorder::project)
      .def("add_product", &Recorder::add_product)
      .def("gated", &Recorder::gated)
      .def("project_heads", &Recorder::project_heads)
      .def("add_rotary", &Recorder::add_rotary)
      .def("attend", &Recorder::attend, nb::arg("q"), nb::arg("k"), nb::arg("v").none(), nb::arg("layer"),
           nb::arg("num_heads"), nb::arg("num_kv_heads"), nb::arg("head_dim"), nb::arg("value_dim"), nb::arg("rotary"),
           nb::arg("rotated_from"), nb::arg("q_norm").none(), nb::arg("k_norm").none(), nb::arg("eps"), nb::arg("clip"),
           nb::arg("scale"), nb::arg("window"), nb::arg("softcap"), nb::arg("sinks").none())
      .def("route", &Recorder::route, nb::arg("logits"), nb::arg("bias").none(), nb::arg("top_k"), nb::arg("score"),
           nb::arg("normalize"), nb::arg("scale"), nb::arg("num_groups"), nb::arg("top_groups"), nb::arg("top2_groups"))
      .def("experts", &Recorder::experts, nb::arg("x"), nb::arg("ids"), nb::arg("weights"), nb::arg("gate"),
           nb::arg("up"), nb::arg("down"), nb::arg("kind"), nb::arg("table").none())
      .def("mark", &Recorder::mark)
      .def("finish", &Recorder::finish)
      .def_prop_ro("nbytes_per_token", &Recorder::nbytes_per_token)
      .def("run", &Recorder::run, nb::arg("segments").none(), nb::arg("source"), nb::arg("first"), nb::arg("last"),
           nb::arg("want"), nb::arg("rows").none(), nb::arg("out").none(), nb::arg("of").none())
      .def_prop_ro("nbytes_carried", &Recorder::nbytes_carried)
      .def("begin", &Recorder::begin, nb::arg("segments").none(), nb::arg("source"), nb::arg("first"), nb::arg("last"),
           nb::arg("want"), nb::arg("rows").none(), nb::arg("out").none(), nb::arg("of").none(), nb::arg("chunk"))
      .def("advance", &Recorder::advance)
      .def("passed", &Recorder::passed)
      .def("chosen", &Recorder::chosen)
      .def("choose", &Recorder::choose)
      .def("start_experts", &Recorder::start_experts)
      .def("router_view", &Recorder::router_view)
      .def("apply", &Recorder::apply)
      .def("pass_on", &Recorder::pass_on)
      .def("end", &Recorder::end);
}

}  // namespace apportion
