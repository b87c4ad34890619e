#include "recording.h"

#include <nanobind/stl/vector.h>

#include "cpu.h"
#include "project.h"

namespace nb = nanobind;

namespace apportion {

namespace {

std::vector<size_t> shape_of(const Weight& weight) { return nb::cast<std::vector<size_t>>(weight[2]); }

size_t count_of(const Weight& weight) { return shape_of(weight)[0]; }

}  // namespace

Recording::Recording(const std::string& isa, unsigned threads, bool exact)
    : program_({find_kernels(isa), threads, exact}) {
  require(find_kernels(isa), "this instruction set is unknown or not available here");
  require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
}

Buffer Recording::embed(const Weight& table_, float scale) {
  require_open();
  const Matrix table = matrix(table_, 2);
  num_embeddings_ = table.rows;
  const Buffer out = program_.make(table.cols);
  program_.add(EmbedStep{table, scale, out}, {out});
  return out;
}

// Hidden states that callers bring: instead of embed.
Buffer Recording::input(size_t width) {
  require_open();
  require(width > 0, "hidden states need a width");
  return program_.make(width);
}

Buffer Recording::rms_norm(Buffer x, nb::handle weight, float eps) {
  const size_t width = width_of(x);
  const float* numbers = floats(weight, "weight", width);
  const Buffer out = program_.make(width);
  program_.add(NormStep{x, out, numbers, width, eps}, {x, out});
  return out;
}

void Recording::add(Buffer x, Buffer y, float scale, nb::handle weight, float eps) {
  const size_t width = width_of(x);
  require(width_of(y) == width, "x and y differ in width");
  const float* numbers = weight.is_none() ? nullptr : floats(weight, "weight", width);
  program_.add(AddStep{x, y, numbers, width, eps, scale}, {x, y});
}

void Recording::add_gated(Buffer x, Buffer y, Buffer gate) {
  const size_t width = width_of(x);
  require(width_of(y) == width && width_of(gate) == 1, "y must be as wide as x, and a gate one number");
  program_.add(AddGatedStep{x, y, gate, width}, {x, y, gate});
}

void Recording::bound(Buffer x, float scale, float cap) { program_.add(BoundStep{x, width_of(x), scale, cap}, {x}); }

std::vector<Buffer> Recording::project(Buffer x, const std::vector<Weight>& weights) {
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

void Recording::add_product(Buffer x, const Weight& weight, Buffer to, float scale) {
  const Matrix m = factor(x, weight);
  require(width_of(to) == m.rows, "the sum differs from the product in width");
  program_.add(ProjectStep{x, {{m, bias(weight, m.rows), to, true, scale}}}, {x});
}

Buffer Recording::gated(Buffer x, const Weight& gate_, const Weight& up_, int kind) {
  const Matrix gate = factor(x, gate_), up = factor(x, up_);
  require(gate.rows == up.rows, "gate and up differ in rows");
  const GateKind known = gate_kind(kind);
  const Buffer out = program_.make(gate.rows);
  program_.add(GatedStep{x, out, gate, up, known}, {x, out});
  return out;
}

Buffer Recording::project_heads(Buffer x, const Weight& weight, size_t keep) {
  const Matrix first = matrix(weight, 3);
  const size_t num_heads = count_of(weight);
  require(width_of(x) == num_heads * (first.cols + keep), "x is not as wide as the heads together");
  const Buffer out = program_.make(num_heads * (first.rows + keep));
  program_.add(HeadsStep{x, out, first, num_heads, keep}, {x, out});
  return out;
}

size_t Recording::add_rotary(nb::handle inv_freq, bool interleaved, float scale) {
  require_open();
  const View& view = keep(inv_freq, "inv_freq", kFloat).of_ndim(1).contiguous();
  require(view.size() > 0, "inv_freq is empty");
  pairs_.push_back(view.size());
  return program_.add_rotary({view.data<const float>(), view.size()}, interleaved, scale);
}

Buffer Recording::attend(Buffer q, Buffer k, std::optional<Buffer> v, size_t layer, size_t num_heads,
                         size_t num_kv_heads, size_t head_dim, size_t value_dim, size_t rotary, size_t rotated_from,
                         nb::handle q_norm, nb::handle k_norm, float eps, float clip, float scale, size_t window,
                         float softcap, nb::handle sinks) {
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

std::pair<Buffer, Buffer> Recording::route(Buffer logits, nb::handle bias, size_t top_k, int score, bool normalize,
                                           float scale, size_t num_groups, size_t top_groups, bool top2_groups) {
  const Routing routing =
      routing_of(width_of(logits), top_k, score, normalize, scale, num_groups, top_groups, top2_groups);
  const float* numbers = bias.is_none() ? nullptr : floats(bias, "bias", width_of(logits));
  const Buffer ids = program_.make(top_k), weights = program_.make(top_k);
  program_.add(RouteStep{logits, ids, weights, width_of(logits), numbers, routing}, {logits, ids, weights});
  routed_.emplace(ids, logits);
  return {ids, weights};
}

Buffer Recording::experts(Buffer x, Buffer ids, Buffer weights, const Weight& gate, const Weight& up,
                          const Weight& down, int kind, nb::handle table_) {
  const size_t count = count_of(gate);
  const std::shared_ptr<ExpertTable> table = table_.is_none() ? nullptr : table_from(table_);
  if (table) tables_.emplace(table->places(), table);
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

void Recording::mark(Buffer hidden) {
  width_of(hidden);
  program_.mark(hidden);
}

void Recording::finish(Buffer logits) {
  width_of(logits);
  require(program_.finish(logits), "a value other than the hidden states passes from one layer to another");
}

ExpertShelf* Recording::waiting_shelf() const { return tables_.at(program_.waiting_for().experts.places)->shelf(); }

// --- what steps are made of ---

void Recording::require_open() const { require(!program_.finished(), "the program is finished"); }

size_t Recording::width_of(Buffer buffer) const {
  require_open();
  require(buffer < program_.num_buffers(), "no such buffer");
  return program_.width(buffer);
}

const View& Recording::keep(nb::handle array, const char* name, const char* types) {
  kept_.push_back(std::make_unique<View>(array, name, types));
  return *kept_.back();
}

const float* Recording::floats(nb::handle array, const char* name, size_t size) {
  const View& view = keep(array, name, kFloat).contiguous();
  if (view.size() != size) refuse(std::string(name) + " must have " + std::to_string(size) + " numbers");
  return view.data<const float>();
}

// The weight's matrix, or the first of its stack.
Matrix Recording::matrix(const Weight& weight, size_t ndim) {
  require_open();
  require(weight.size() == 4, "a weight is data, type, shape and bias");
  const std::vector<size_t> shape = shape_of(weight);
  require(shape.size() == ndim, "the weight has the wrong number of dimensions");
  const View& data = keep(weight[0], "weight", kByte);
  return matrix_of(data, nb::cast<int>(weight[1]), ndim == 3 ? shape[0] : 1, shape[ndim - 2], shape[ndim - 1]);
}

Matrix Recording::factor(Buffer x, const Weight& weight, size_t ndim) {
  const Matrix m = matrix(weight, ndim);
  require(width_of(x) == m.cols, "x is not as wide as the weight");
  return m;
}

const float* Recording::bias(const Weight& weight, size_t size) {
  return weight[3].is_none() ? nullptr : floats(weight[3], "bias", size);
}

// A norm of each head or of all, by the weight's size; of a part of each head if it is smaller.
HeadNorm Recording::head_norm(nb::handle weight, size_t width, size_t head_dim) {
  if (weight.is_none()) return {nullptr, 0, 1};
  const View& view = keep(weight, "norm", kFloat).of_ndim(1).contiguous();
  const size_t period = std::max(head_dim, view.size());
  require(view.size() > 0 && width % period == 0, "the heads are not whole runs of the norm's width");
  return {view.data<const float>(), view.size(), period};
}

}  // namespace apportion
