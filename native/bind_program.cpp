#include "bind_program.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "bind_kv.h"
#include "expert_stops.h"
#include "recording.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

class PyProgram : public Recording {
 public:
  using Recording::Recording;

  // What is wanted is written to `out`. Of logits the largest alone may be asked for, `of` a limit and ids to leave
  // out: then its ids are the result, the logits, and the share of the head that was multiplied whole. They are
  // compared in `out`, as many rows at a time as it has; without it they are found by bounds.
  nb::object run(nb::handle segments, nb::handle source, size_t first, size_t last, int want, nb::handle rows,
                 nb::handle out, nb::handle of) {
    require(!program_.has_stops() || first == last, "this program has to be run in pieces");
    Going going(*this, segments, source, first, last, want, rows, out, of, nb::none());
    bool complete = false;
    {
      Unlocked unlocked;
      complete = program_.run(going.request);
    }
    if (!complete) throw nb::python_error();
    return answer(going);
  }

  // --- in pieces ---

  // `check` is called now and then; what it raises breaks the run off.
  void begin(nb::handle segments, nb::handle source, size_t first, size_t last, int want, nb::handle rows,
             nb::handle out, nb::handle of, size_t chunk, nb::object check) {
    going_.reset();
    stops_.reset();
    auto going = std::make_unique<Going>(*this, segments, source, first, last, want, rows, out, of, std::move(check));
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
  // shelf brings the chosen experts by itself: `passed` tells them. Ends early where one does not come: its shelf
  // tells why.
  bool advance(size_t layer, bool may_pass) {
    require(going_ && !program_.is_waiting(), "no run is under way, or it waits for experts");
    require(layer <= going_->request.last, "the run ends before this layer");
    require(!may_pass || going_->request.num_tokens == 1, "experts of many tokens come in parts");
    Program::Pause pause;
    auto passing = ExpertStops::Pass::undecided;
    {
      Unlocked unlocked;
      do {
        pause = program_.advance(layer);
        const bool passes = may_pass && pause == Program::Pause::experts;
        passing = passes ? stops_.pass(waiting_shelf()) : ExpertStops::Pass::undecided;
      } while (passing == ExpertStops::Pass::done);
    }
    const bool is_broken_off = passing == ExpertStops::Pass::broken_off && !waiting_shelf()->has_failed();
    if (pause == Program::Pause::stopped || is_broken_off) throw nb::python_error();
    return pause == Program::Pause::experts;
  }

  // Of each layer that the token passed, or broke off at, since this was asked last: its experts, how many of them were
  // here, and who left for the others.
  nb::list passed() {
    require(bool(going_), "no run is under way");
    nb::list layers;
    stops_.tell_passed([&](std::span<const uint32_t> used, size_t num_here, std::span<const uint32_t> left) {
      layers.append(nb::make_tuple(list_of(used), num_here, list_of(left)));
    });
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
    require(!stops_.has_begun(), "the experts have been started");
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
    Unlocked unlocked;
    stops_.begin();
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

  // Experts that are in memory or on their way there, of many tokens in the order of their numbers. Of a single token
  // those that are there are applied first. Ends early where one does not come: its shelf tells why.
  void apply(const std::vector<uint32_t>& experts) {
    const ExpertInput input = waiting_input();
    require(stops_.has_begun(), "the experts have not been started");
    const Experts& known = program_.waiting_for().experts;
    ExpertShelf* const shelf = waiting_shelf();
    for (const uint32_t expert : experts) {
      require(expert < known.count, "no such expert");
      const bool is_there = known.places[expert].gate;
      require(is_there || (shelf && shelf->state(expert) == ExpertShelf::State::coming), "the expert is not in memory");
      require(input.num_tokens == 1 || expert >= next_expert_, "experts of many tokens come in order");
      next_expert_ = expert + 1;
    }
    bool complete = false;
    {
      Unlocked unlocked;
      complete = stops_.apply(shelf, experts);
    }
    if (!complete && !shelf->has_failed()) throw nb::python_error();
  }

  // All experts that the tokens chose were applied.
  void pass_on() {
    waiting_input();
    require(stops_.has_begun(), "the experts have not been started");
    Unlocked unlocked;
    stops_.end();
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
  static nb::list list_of(std::span<const uint32_t> numbers) {
    nb::list list;
    for (const uint32_t number : numbers) list.append(number);
    return list;
  }

  // Lets Python see signals now and then, so that Ctrl-C does not wait for a long prompt or a slow disk, and asks it
  // whether the run is to go on.
  struct Patience {
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kSlice{50};
    nb::object check;  // or None
    Clock::time_point asked = Clock::now();

    static bool is_over(void* self_) {
      Patience& self = *static_cast<Patience*>(self_);
      const Clock::time_point now = Clock::now();
      if (now - self.asked < kSlice) return false;
      self.asked = now;
      const nb::gil_scoped_acquire locked;
      if (PyErr_CheckSignals()) return true;
      try {
        if (!self.check.is_none()) self.check();
      } catch (nb::python_error& error) {
        error.restore();
        return true;
      }
      return false;
    }
  };

  // What a run needs room for. Used again and again, so that steady work allocates nothing.
  struct Desk {
    Batch batch;
    std::vector<float> values;
    std::vector<int32_t> ids, without;
  };

  struct GiveBack {
    std::vector<std::unique_ptr<Desk>>* idle;

    void operator()(Desk* desk) const {
      desk->batch.end();
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
    Going(PyProgram& self, nb::handle segments, nb::handle source, size_t first, size_t last, int want,
          nb::handle rows_, nb::handle out_, nb::handle of, nb::object check)
        : desk(self.lend_desk(segments)),
          in(source, "source", "fi"),
          rows(rows_, "rows", kInt),
          patience{std::move(check)} {
      request = self.checked_request(desk->batch, in, first, last, want, rows);
      if (!out_.is_none()) self.write_to(out.emplace(out_, "out", kFloat, Access::write), request, !of.is_none());
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

  // All that is wanted, or logits that are compared, some rows at a time.
  void write_to(const View& out, Request& request, bool compares) const {
    const bool is_hidden = request.want == Want::hidden || request.want == Want::some_hidden;
    out.of_ndim(2).contiguous();
    request.room = out.dim(0);
    require((compares ? request.room > 0 : request.room == num_wanted(request)) &&
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

  std::vector<std::unique_ptr<Desk>> idle_desks_;
  std::unique_ptr<Going> going_;
  ExpertStops stops_{program_};
  uint32_t next_expert_ = 0;  // of many tokens
};

}  // namespace

void bind_program(nb::module_& m) {
  nb::class_<PyProgram>(m, "Program", "A forward pass, recorded step by step, then run in one call.")
      .def(nb::init<const std::string&, unsigned, bool>(), nb::arg("isa"), nb::arg("threads"), nb::arg("exact"))
      .def("embed", &PyProgram::embed)
      .def("input", &PyProgram::input)
      .def("rms_norm", &PyProgram::rms_norm)
      .def("add", &PyProgram::add, nb::arg("x"), nb::arg("y"), nb::arg("scale"), nb::arg("weight").none(),
           nb::arg("eps"))
      .def("add_gated", &PyProgram::add_gated)
      .def("bound", &PyProgram::bound)
      .def("project", &PyProgram::project)
      .def("add_product", &PyProgram::add_product)
      .def("gated", &PyProgram::gated)
      .def("project_heads", &PyProgram::project_heads)
      .def("add_rotary", &PyProgram::add_rotary)
      .def("attend", &PyProgram::attend, nb::arg("q"), nb::arg("k"), nb::arg("v").none(), nb::arg("layer"),
           nb::arg("num_heads"), nb::arg("num_kv_heads"), nb::arg("head_dim"), nb::arg("value_dim"), nb::arg("rotary"),
           nb::arg("rotated_from"), nb::arg("q_norm").none(), nb::arg("k_norm").none(), nb::arg("eps"), nb::arg("clip"),
           nb::arg("scale"), nb::arg("window"), nb::arg("softcap"), nb::arg("sinks").none())
      .def("route", &PyProgram::route, nb::arg("logits"), nb::arg("bias").none(), nb::arg("top_k"), nb::arg("score"),
           nb::arg("normalize"), nb::arg("scale"), nb::arg("num_groups"), nb::arg("top_groups"), nb::arg("top2_groups"))
      .def("experts", &PyProgram::experts, nb::arg("x"), nb::arg("ids"), nb::arg("weights"), nb::arg("gate"),
           nb::arg("up"), nb::arg("down"), nb::arg("kind"), nb::arg("table").none())
      .def("mark", &PyProgram::mark)
      .def("finish", &PyProgram::finish)
      .def_prop_ro("nbytes_per_token", &PyProgram::nbytes_per_token)
      .def("run", &PyProgram::run, nb::arg("segments").none(), nb::arg("source"), nb::arg("first"), nb::arg("last"),
           nb::arg("want"), nb::arg("rows").none(), nb::arg("out").none(), nb::arg("of").none())
      .def_prop_ro("nbytes_carried", &PyProgram::nbytes_carried)
      .def("begin", &PyProgram::begin, nb::arg("segments").none(), nb::arg("source"), nb::arg("first"), nb::arg("last"),
           nb::arg("want"), nb::arg("rows").none(), nb::arg("out").none(), nb::arg("of").none(), nb::arg("chunk"),
           nb::arg("check").none())
      .def("advance", &PyProgram::advance)
      .def("passed", &PyProgram::passed)
      .def("chosen", &PyProgram::chosen)
      .def("choose", &PyProgram::choose)
      .def("start_experts", &PyProgram::start_experts)
      .def("router_view", &PyProgram::router_view)
      .def("apply", &PyProgram::apply)
      .def("pass_on", &PyProgram::pass_on)
      .def("end", &PyProgram::end);
}

}  // namespace apportion
