// The Python face: a Core computes on NumPy arrays that the caller allocates. Every call checks all shapes, then lets
// go of the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include "arguments.h"
#include "attend.h"
#include "bind_expert_shelf.h"
#include "bind_expert_table.h"
#include "bind_kv.h"
#include "bind_limits.h"
#include "bind_memory.h"
#include "bind_program.h"
#include "bind_sampling.h"
#include "bind_weights.h"
#include "cpu.h"
#include "embed.h"
#include "experts.h"
#include "place.h"
#include "project.h"
#include "rope.h"
#include "routing.h"
#include "unlocked.h"

namespace nb = nanobind;

namespace apportion {

namespace {

class Core {
 public:
  Core(const std::string& isa, unsigned threads, bool exact) : context_{find_kernels(isa), threads, exact} {
    if (!context_.kernels) refuse("instruction set " + isa + " is unknown or not available here");
    require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
  }

  std::string isa() const { return context_.kernels->isa; }
  unsigned threads() const { return context_.threads; }
  bool exact() const { return context_.exact; }

  void linear(nb::handle x_, nb::handle data_, int storage, nb::handle bias_, nb::handle out_, bool apart) const {
    const View x(x_, "x", kFloat), data(data_, "weight", kByte), out(out_, "out", kFloat, Access::write);
    x.of_ndim(2).contiguous();
    out.of_ndim(2).contiguous();
    const size_t T = x.dim(0), K = x.dim(1), N = out.dim(1);
    require(out.dim(0) == T, "out and x differ in tokens");
    const Matrix matrix = matrix_of(data, storage, 1, N, K);
    const OptionalFloats bias(bias_, "bias", N);
    Unlocked unlocked;
    project(context_, x.data<const float>(), T, {{{matrix, bias.data(), out.data<float>()}}}, apart);
  }

  void linear_heads(nb::handle x_, nb::handle data_, int storage, nb::handle out_) const {
    const View x(x_, "x", kFloat), data(data_, "weight", kByte), out(out_, "out", kFloat, Access::write);
    x.of_ndim(3).contiguous();
    out.of_ndim(3).contiguous();
    require(out.dim(0) == x.dim(0) && out.dim(1) == x.dim(1), "out and x differ in tokens or heads");
    const Matrix matrix = matrix_of(data, storage, x.dim(1), out.dim(2), x.dim(2));
    Unlocked unlocked;
    project_heads(context_, x.data<const float>(), x.dim(0), x.dim(1), matrix, 0, out.data<float>());
  }

  void embed(nb::handle ids_, nb::handle data_, int storage, nb::handle out_) const {
    const View ids(ids_, "ids", kInt), data(data_, "table", kByte), out(out_, "out", kFloat, Access::write);
    ids.of_ndim(1).contiguous();
    out.of_ndim(2).contiguous();
    require(out.dim(0) == ids.dim(0), "out and ids differ in tokens");
    const size_t row_nbytes = format_of(type_of(storage)).row_nbytes(out.dim(1));
    require(row_nbytes > 0, "the table's rows are empty");
    const Matrix table = matrix_of(data, storage, 1, data.nbytes() / row_nbytes, out.dim(1));
    const std::span<const int32_t> wanted(ids.data<const int32_t>(), ids.dim(0));
    for (const int32_t id : wanted)
      if (id < 0 || size_t(id) >= table.rows)
        refuse("id " + std::to_string(id) + " is outside a table of " + std::to_string(table.rows) + " rows");
    Unlocked unlocked;
    apportion::embed(context_, table, wanted, out.data<float>());
  }

  void rms_norm(nb::handle x_, nb::handle weight_, float eps, nb::handle out_) const {
    const View x(x_, "x", kFloat), weight(weight_, "weight", kFloat), out(out_, "out", kFloat, Access::write);
    x.contiguous();
    weight.of_ndim(1).contiguous();
    out.contiguous();
    const size_t width = weight.dim(0);
    require(x.dim(x.ndim() - 1) == width && width > 0, "weight must be as wide as x");
    require(out.size() == x.size(), "out must have the shape of x");
    const auto normalize = [&](size_t begin, size_t end, unsigned) {
      for (size_t row = begin; row < end; ++row)
        context_.kernels->rms_norm(x.data<const float>() + row * width, weight.data<const float>(), width, eps,
                                   out.data<float>() + row * width);
    };
    Unlocked unlocked;
    Pool::shared().run(x.size() / width, std::max<size_t>(1, 16384 / width), context_.threads, normalize);
  }

  void gate(nb::handle gate_, nb::handle up_, int kind, nb::handle out_) const {
    const View gate(gate_, "gate", kFloat), up(up_, "up", kFloat), out(out_, "out", kFloat, Access::write);
    gate.contiguous();
    up.contiguous();
    out.contiguous();
    require(gate.size() == up.size() && gate.size() == out.size(), "gate, up and out must have one shape");
    const GateKind known = gate_kind(kind);
    Unlocked unlocked;
    Pool::shared().run(gate.size(), 8192, context_.threads, [&](size_t begin, size_t end, unsigned) {
      context_.kernels->gate(gate.data<const float>() + begin, up.data<const float>() + begin, end - begin, known,
                             out.data<float>() + begin);
    });
  }

  void rope(nb::handle x_, nb::handle positions_, nb::handle inv_freq_, bool interleaved, float scale) const {
    const View x(x_, "x", kFloat, Access::write), positions(positions_, "positions", kInt),
        inv_freq(inv_freq_, "inv_freq", kFloat);
    x.of_ndim(3).last_contiguous();
    positions.of_ndim(1).contiguous();
    inv_freq.of_ndim(1).contiguous();
    require(positions.dim(0) == x.dim(0), "positions and x differ in tokens");
    require(2 * inv_freq.dim(0) <= x.dim(2), "inv_freq has more frequencies than x has pairs");
    const Rotation rotation{x.data<float>(),
                            x.dim(0),
                            x.dim(1),
                            x.stride(0),
                            x.stride(1),
                            positions.data<const int32_t>(),
                            inv_freq.data<const float>(),
                            inv_freq.dim(0),
                            interleaved,
                            scale};
    Unlocked unlocked;
    rotate(context_, rotation);
  }

  // Keys [T, G, D] and values [T, G, Dv] of the segments' tokens.
  void append(const nb::sequence& segments, size_t layer, nb::handle keys_, nb::handle values_) const {
    Batch batch;
    batch.begin(segments);
    const KvShape shape = batch.shape(layer);
    const View keys(keys_, "keys", kFloat);
    std::optional<View> values;
    if (!values_.is_none()) values.emplace(values_, "values", kFloat);
    const auto fits = [&](const View& rows, size_t width) {
      rows.of_ndim(3).contiguous();
      return rows.dim(0) == batch.num_tokens() && rows.dim(1) == shape.num_heads && rows.dim(2) == width;
    };
    require(values.has_value() != shape.joint, "the layer's values are a part of its keys, or they are missing");
    require(fits(keys, shape.key_width) && (shape.joint || fits(*values, shape.value_width)),
            "keys or values have the wrong shape");
    const Rows rows{keys.data<const float>(), values ? values->data<const float>() : nullptr, shape, layer,
                    batch.segments()};
    Unlocked unlocked;
    apportion::append(context_, rows);
  }

  void attend(nb::handle q_, const nb::sequence& segments, size_t layer, float scale, size_t window, float softcap,
              nb::handle sinks_, nb::handle out_) const {
    Batch batch;
    batch.begin(segments);
    const KvShape shape = batch.shape(layer);
    if (window) batch.require_whole(layer);
    const View q(q_, "q", kFloat), out(out_, "out", kFloat, Access::write);
    q.of_ndim(3).contiguous();
    out.of_ndim(3).contiguous();
    const size_t T = q.dim(0), A = q.dim(1);
    require(T == batch.num_tokens() && q.dim(2) == shape.key_width, "q has the wrong shape");
    require(A % shape.num_heads == 0, "query heads must be a multiple of key-value heads");
    require(out.dim(0) == T && out.dim(1) == A && out.dim(2) == shape.value_width,
            "out must be [tokens, heads, value size]");
    const OptionalFloats sinks(sinks_, "sinks", A);
    const Attention attention{q.data<const float>(), A, layer, shape, window, scale, softcap, sinks.data(),
                              batch.segments()};
    Unlocked unlocked;
    apportion::attend(context_, attention, out.data<float>());
  }

  void route(nb::handle logits_, nb::handle bias_, size_t top_k, int score, bool normalize, float scale,
             size_t num_groups, size_t top_groups, bool top2_groups, nb::handle ids_, nb::handle weights_) const {
    const View logits(logits_, "logits", kFloat), ids(ids_, "ids", kInt, Access::write),
        weights(weights_, "weights", kFloat, Access::write);
    logits.of_ndim(2).contiguous();
    ids.of_ndim(2).contiguous();
    weights.of_ndim(2).contiguous();
    const size_t T = logits.dim(0), E = logits.dim(1);
    const Routing routing = routing_of(E, top_k, score, normalize, scale, num_groups, top_groups, top2_groups);
    require(ids.dim(0) == T && ids.dim(1) == top_k && weights.size() == ids.size() && weights.dim(0) == T,
            "ids and weights must be [tokens, top_k]");
    const OptionalFloats bias(bias_, "bias", E);
    Unlocked unlocked;
    apportion::route(context_, logits.data<const float>(), T, E, bias.data(), routing, ids.data<int32_t>(),
                     weights.data<float>());
  }

  void experts(nb::handle x_, nb::handle ids_, nb::handle weights_, nb::tuple gate_, nb::tuple up_, nb::tuple down_,
               size_t num_experts, size_t inner, int kind, nb::handle out_) const {
    const View x(x_, "x", kFloat), ids(ids_, "ids", kInt), weights(weights_, "weights", kFloat),
        out(out_, "out", kFloat, Access::write);
    x.of_ndim(2).contiguous();
    ids.of_ndim(2).contiguous();
    weights.of_ndim(2).contiguous();
    out.of_ndim(2).contiguous();
    const size_t T = x.dim(0), H = x.dim(1), R = ids.dim(1);
    require(out.dim(0) == T && out.dim(1) == H, "out must have the shape of x");
    require(ids.dim(0) == T && weights.dim(0) == T && weights.dim(1) == R,
            "ids and weights must be [tokens, experts per token]");
    const int32_t* chosen = ids.data<const int32_t>();
    for (size_t i = 0; i < T * R; ++i)
      if (chosen[i] < 0 || size_t(chosen[i]) >= num_experts)
        refuse("expert " + std::to_string(chosen[i]) + " is outside " + std::to_string(num_experts) + " experts");
    const Stack gate(gate_, "gate", num_experts, inner, H), up(up_, "up", num_experts, inner, H);
    const Stack down(down_, "down", num_experts, H, inner);
    const Experts experts{num_experts,      gate.first,     up.first,        down.first,
                          gate.bias.data(), up.bias.data(), down.bias.data()};
    const GateKind known = gate_kind(kind);
    Unlocked unlocked;
    apply_experts(context_, {x.data<const float>(), chosen, weights.data<const float>(), T, R}, experts, known,
                  out.data<float>());
  }

 private:
  // (data, storage, bias or None) of matrices [count, rows, cols].
  struct Stack {
    Stack(const nb::tuple& parts, const char* name, size_t count, size_t rows, size_t cols)
        : data(parts[0], name, kByte),
          bias(parts[2], "bias", count * rows),
          first(matrix_of(data, nb::cast<int>(parts[1]), count, rows, cols)) {}

    View data;
    OptionalFloats bias;
    Matrix first;
  };

  Context context_;
};

}  // namespace

}  // namespace apportion

NB_MODULE(_native, m) {
  using namespace apportion;
  m.doc() = "apportion's C++ core";
  m.def("available_isas", &available_isas, "Instruction sets that this machine can use, the fastest first.");
  bind_weights(m);
  bind_memory(m);
  bind_limits(m);
  bind_expert_table(m);
  bind_expert_shelf(m);
  bind_kv(m);
  bind_program(m);
  bind_sampling(m);
  nb::class_<Core>(m, "Core", "Computes the operations of kernels/ops.py into arrays that the caller gives.")
      .def(nb::init<const std::string&, unsigned, bool>(), nb::arg("isa"), nb::arg("threads"), nb::arg("exact"))
      .def_prop_ro("isa", &Core::isa)
      .def_prop_ro("threads", &Core::threads)
      .def_prop_ro("exact", &Core::exact)
      .def("linear", &Core::linear, nb::arg("x"), nb::arg("data"), nb::arg("ggml_type"), nb::arg("bias").none(),
           nb::arg("out"), nb::arg("apart"))
      .def("linear_heads", &Core::linear_heads)
      .def("embed", &Core::embed)
      .def("rms_norm", &Core::rms_norm)
      .def("gate", &Core::gate)
      .def("rope", &Core::rope)
      .def("append", &Core::append, nb::arg("segments"), nb::arg("layer"), nb::arg("keys"), nb::arg("values").none())
      .def("attend", &Core::attend, nb::arg("q"), nb::arg("segments"), nb::arg("layer"), nb::arg("scale"),
           nb::arg("window"), nb::arg("softcap"), nb::arg("sinks").none(), nb::arg("out"))
      .def("route", &Core::route, nb::arg("logits"), nb::arg("bias").none(), nb::arg("top_k"), nb::arg("score"),
           nb::arg("normalize"), nb::arg("scale"), nb::arg("num_groups"), nb::arg("top_groups"), nb::arg("top2_groups"),
           nb::arg("ids"), nb::arg("weights"))
      .def("experts", &Core::experts);
}
