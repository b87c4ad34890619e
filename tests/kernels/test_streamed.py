"""Programs whose experts come and go against programs that have all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from apportion import _native
from apportion._native import ExpertTable
from apportion.formats.block import Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import ExpertWeights, NativeOps, Routing, Weight, weight_from_floats
from apportion.kernels.ops import Ints
from apportion.kernels.residency import RouterView
from apportion.kernels.steps import Product, Steps
from apportion.kernels.streamed import StreamedProgram

MakeOps = Callable[..., NativeOps]
HIDDEN, INNER, EXPERTS, PER_TOKEN, VOCAB, LAYERS = 64, 96, 6, 2, 40, 2


def weight(name: str, seed: int, *shape: int) -> Weight:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return weight_from_floats(FORMATS[name], values / np.float32(np.sqrt(shape[-1])))


@dataclass
class Pass:
    """Embed, then layers of experts, then a head."""

    experts: list[ExpertWeights]
    num_layers: int = LAYERS
    hidden_size: int = HIDDEN
    vocab_size: int = VOCAB

    def embed(self, steps: Steps[Any]) -> Any:
        return steps.embed(weight("f32", 1, VOCAB, HIDDEN))

    def layer(self, steps: Steps[Any], layer: int, x: Any) -> Any:
        y = steps.rms_norm(x, np.ones(HIDDEN, np.float32), 1e-6)
        (scores,) = steps.project(y, [Product(weight("f32", 20 + layer, EXPERTS, HIDDEN))])
        ids, shares = steps.route(scores, Routing(PER_TOKEN))
        return steps.add(x, steps.experts(y, ids, shares, self.experts[layer], "silu"))

    def head(self, steps: Steps[Any], x: Any) -> Any:
        (logits,) = steps.project(x, [Product(weight("f32", 3, VOCAB, HIDDEN))])
        return logits


def stacks(layer: int, biased: bool) -> ExpertWeights:
    gate = weight("q4_0", 30 + layer, EXPERTS, INNER, HIDDEN)
    up = weight("q8_0", 40 + layer, EXPERTS, INNER, HIDDEN)
    down = weight("q4_1", 50 + layer, EXPERTS, HIDDEN, INNER)
    if not biased:
        return ExpertWeights(gate, up, down)
    rng = np.random.default_rng(60 + layer)
    biases = [rng.standard_normal((EXPERTS, rows), dtype=np.float32) for rows in (INNER, INNER, HIDDEN)]
    return ExpertWeights(gate, up, down, *biases)


@dataclass
class Shelf:
    """A residency with everything at hand, which gives experts in the order and parts that a test wants."""

    experts: list[ExpertWeights]
    in_parts: Callable[[list[int]], list[list[int]]] = lambda chosen: [chosen]
    chunk: int = 512
    streamed_layers: Sequence[int] = ()
    num_experts: int = EXPERTS
    experts_per_token: int = PER_TOKEN
    reads_embedding: bool = False
    required: list[int] = field(default_factory=list)
    watches_routers: bool = False
    views: list[RouterView | None] = field(default_factory=list)
    routes: bool = True  # so that single tokens do not pass
    used: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    brings: bool = False  # an expert that is away
    asked: list[tuple[int, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bytes: list[np.ndarray] = []
        self._tables = [self._table(experts) for experts in self.experts]

    def _table(self, experts: ExpertWeights) -> ExpertTable:
        matrices = (experts.gate, experts.up, experts.down)
        told = [(one.format.ggml_type, one.shape[1], one.shape[2]) for one in matrices]
        table = ExpertTable(EXPERTS, *told, threads=1)  # type: ignore[arg-type]
        for expert in range(EXPERTS):
            self._put(table, experts, expert)
        return table

    def _put(self, table: ExpertTable, experts: ExpertWeights, expert: int) -> None:
        matrices = (experts.gate, experts.up, experts.down)
        pieces = [np.ascontiguousarray(one.data[expert]).reshape(-1) for one in matrices]
        starts = np.cumsum([0, *(piece.size for piece in pieces)])[:3].tolist()
        self._bytes.append(np.concatenate(pieces))
        table.put(expert, self._bytes[-1], *starts)

    def expert_table(self, layer: int) -> ExpertTable:
        return self._tables[layer]

    def dense_weights(self, layer: int) -> Mapping[str, Weight] | None:
        return None

    def begin_run(self) -> None: ...

    def end_run(self) -> None: ...

    def require(self, layer: int) -> None:
        self.required.append(layer)

    def route(self, layer: int, ids: Ints) -> Ints | None:
        return None

    def acquire(self, layer: int, ids: Ints, view: RouterView | None) -> Iterator[Sequence[int]]:
        self.views.append(view)
        self.asked.append((layer, sorted(set(ids.reshape(-1).tolist()))))
        for expert in self.asked[-1][1] if self.brings else ():
            self._put(self._tables[layer], self.experts[layer], expert)
        yield from self.in_parts(sorted(set(ids.reshape(-1).tolist())))

    def check_wanted(self) -> None: ...

    def passed(self, layer: int, experts: Sequence[int], num_here: int, left: Sequence[int]) -> None:
        assert (num_here, left) == (len(experts), [])
        self.used.append((layer, experts))

    def embed(self, ids: Ints) -> Floats:
        raise NotImplementedError


def streamed(ops: NativeOps, shelf: Shelf) -> StreamedProgram:
    away = [
        ExpertWeights(
            *(Weight(one.format, one.shape, np.empty(0, np.uint8)) for one in (e.gate, e.up, e.down)),
            e.gate_bias,
            e.up_bias,
            e.down_bias,
            table,
        )
        for e, table in zip(shelf.experts, shelf._tables, strict=True)
    ]
    program = ops.program(Pass(away), shelf)
    assert isinstance(program, StreamedProgram)
    return program


@pytest.mark.parametrize("num_tokens", [1, 700])
def test_what_routers_see_and_give_is_told_to_who_watches_them(num_tokens: int) -> None:
    shelf = Shelf([stacks(layer, False) for layer in range(LAYERS)], chunk=512, watches_routers=True)
    ids = np.arange(num_tokens, dtype=np.int32) % VOCAB
    streamed(NativeOps(2, isa=_native.available_isas()[0]), shelf).run(ids, None)
    assert len(shelf.views) == LAYERS
    for layer, view in enumerate(shelf.views):
        assert view is not None
        router = weight("f32", 20 + layer, EXPERTS, HIDDEN).dequantize()
        np.testing.assert_allclose(view.scores, view.inputs @ router.T, rtol=1e-4, atol=1e-5)
        best = np.sort(np.exp(view.scores - view.scores.max(1, keepdims=True)))[:, ::-1]
        shares = best[:, :PER_TOKEN] / best.sum(1, keepdims=True)
        np.testing.assert_allclose(np.sort(view.weights)[:, ::-1], shares, rtol=1e-3, atol=1e-6)


def one_by_one(chosen: list[int]) -> list[list[int]]:
    return [[expert] for expert in chosen]


def backwards(chosen: list[int]) -> list[list[int]]:
    return [[expert] for expert in reversed(chosen)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("count", [1, 2, 37, 300])
def test_parts_of_experts_give_the_same_numbers(make_ops: MakeOps, count: int, biased: bool) -> None:
    experts = [stacks(layer, biased) for layer in range(LAYERS)]
    ops = make_ops(threads=2)
    prepared = [
        ExpertWeights(
            ops.prepare(e.gate), ops.prepare(e.up), ops.prepare(e.down), e.gate_bias, e.up_bias, e.down_bias
        )
        for e in [stacks(layer, biased) for layer in range(LAYERS)]
    ]
    ids = (np.arange(count, dtype=np.int32) * 7) % VOCAB
    expected = ops.program(Pass(prepared)).run(ids, None, want="all")
    ways = [one_by_one, lambda chosen: [chosen], *([backwards] if count == 1 else [])]
    for in_parts in ways:
        for chunk in (512, 16):
            program = streamed(ops, Shelf(experts, in_parts, chunk))
            np.testing.assert_array_equal(program.run(ids, None, want="all"), expected)
            np.testing.assert_array_equal(program.run(ids, None), expected[-1:])


def test_experts_that_no_token_chose_change_nothing(make_ops: MakeOps) -> None:
    experts = [stacks(layer, False) for layer in range(LAYERS)]
    ops, ids = make_ops(threads=2), np.array([5], np.int32)
    exact = streamed(ops, Shelf(experts)).run(ids, None)
    everything = streamed(ops, Shelf(experts, lambda chosen: [list(range(EXPERTS))])).run(ids, None)
    np.testing.assert_array_equal(everything, exact)


@pytest.mark.parametrize("streamed_layers", [(), (0, 1)])
def test_a_token_passes_layers_whose_experts_are_in_memory(
    make_ops: MakeOps, streamed_layers: tuple[int, ...]
) -> None:
    experts = [stacks(layer, True) for layer in range(LAYERS)]
    asked = Shelf(experts)
    routes: list[list[int]] = []
    expected, passing = streamed(make_ops(), asked), Shelf(experts, routes=False)
    program = streamed(make_ops(), passing)
    for token in range(9):
        ids = np.array([token], np.int32)
        with expected.observed_by(lambda layer, ids, *_: routes.append(ids[0].tolist())):
            logits = expected.run(ids, None)
        passing.streamed_layers = streamed_layers
        np.testing.assert_array_equal(program.run(ids, None), logits)
    assert passing.used == [(n % LAYERS, route) for n, route in enumerate(routes)]
    assert not passing.views
    assert not asked.used


def test_a_layer_that_lacks_an_expert_asks_for_what_was_chosen(make_ops: MakeOps) -> None:
    whole = Shelf([stacks(layer, False) for layer in range(LAYERS)], routes=False)
    program, ids = streamed(make_ops(), whole), np.array([5], np.int32)
    expected = program.run(ids, None)
    (routes, whole.used) = whole.used, []
    for layer, chosen in routes:
        whole.expert_table(layer).clear(chosen[-1])
        whole.brings = True
        np.testing.assert_array_equal(program.run(ids, None), expected)
        assert whole.used == [route for route in routes if route[0] != layer]
        assert whole.asked == [(layer, sorted(chosen))]
        whole.used, whole.asked = [], []


@pytest.mark.parametrize("watch", ["routes", "watches_routers", "observed", "tokens"])
def test_nobody_passes_where_routes_are_watched_or_tokens_are_many(watch: str) -> None:
    shelf = Shelf([stacks(layer, False) for layer in range(LAYERS)], routes=watch == "routes")
    shelf.watches_routers = watch == "watches_routers"
    program = streamed(NativeOps(1), shelf)
    ids = np.arange(2 if watch == "tokens" else 1, dtype=np.int32)
    if watch == "observed":
        with program.observed_by(lambda *_: None):
            program.run(ids, None)
    else:
        program.run(ids, None)
    assert len(shelf.views) == LAYERS
    assert not shelf.used


def test_layers_that_stream_are_required_in_order(make_ops: MakeOps) -> None:
    shelf = Shelf([stacks(layer, False) for layer in range(LAYERS)], streamed_layers=(0, 1))
    program = streamed(make_ops(), shelf)
    program.run(np.array([1, 2], np.int32), None)
    hidden = program.run(np.array([1, 2], np.int32), None, 0, 1, "hidden")
    program.run(hidden, None, 1)
    assert shelf.required == [0, 1, 0, 1]


def test_an_expert_that_is_away_is_refused_and_the_next_run_is_right(make_ops: MakeOps) -> None:
    shelf = Shelf([stacks(layer, False) for layer in range(LAYERS)])
    program = streamed(make_ops(), shelf)
    ids = np.array([3, 4], np.int32)
    expected = program.run(ids, None)
    away = Shelf([stacks(layer, False) for layer in range(LAYERS)])
    broken = streamed(make_ops(), away)
    for expert in range(EXPERTS):
        away.expert_table(1).clear(expert)
    with pytest.raises(ValueError, match="not in memory"):
        broken.run(ids, None)
    np.testing.assert_array_equal(program.run(ids, None), expected)


def test_experts_of_many_tokens_must_come_in_order(make_ops: MakeOps) -> None:
    shelf = Shelf([stacks(layer, False) for layer in range(LAYERS)], backwards)
    with pytest.raises(ValueError, match="in order"):
        streamed(make_ops(), shelf).run(np.arange(20, dtype=np.int32), None)


def test_pieces_out_of_turn_are_refused() -> None:
    program = streamed(NativeOps(1), Shelf([stacks(layer, False) for layer in range(LAYERS)]))
    native = program._native
    for act in (
        native.pass_on,
        native.start_experts,
        native.end,
        lambda: native.advance(1, False),
        native.passed,
    ):
        with pytest.raises(ValueError, match=r"wait|under way"):
            act()
    with pytest.raises(ValueError, match="in pieces"):
        native.run(None, np.array([1], np.int32), 0, LAYERS, 1, None, np.empty((1, VOCAB), np.float32), None)
    out = np.empty((1, VOCAB), np.float32)
    native.begin(None, np.array([1, 2], np.int32), 0, LAYERS, 1, None, out, None, 0, None)
    with pytest.raises(ValueError, match="in parts"):
        native.advance(LAYERS, True)
    native.begin(None, np.array([1], np.int32), 0, LAYERS, 1, None, out, None, 0, None)
    assert native.advance(LAYERS, False)
    for act in (native.pass_on, lambda: native.apply([0])):
        with pytest.raises(ValueError, match="started"):
            act()
    with pytest.raises(ValueError, match="wait"):
        native.end()
    with pytest.raises(ValueError, match="no such expert"):
        native.choose(np.full((1, PER_TOKEN), EXPERTS, np.int32))


def test_a_table_takes_only_what_fits() -> None:
    q8 = FORMATS["q8_0"].ggml_type
    table = ExpertTable(2, (q8, 32, 64), (q8, 32, 64), (q8, 64, 32), threads=1)
    slot = np.zeros(3 * 64 * 34, np.uint8)
    table.put(1, slot, 0, 2176, 4352)
    for starts in ((0, 2176, 4353), (1 << 62, 0, 0)):
        with pytest.raises(ValueError, match="too small"):
            table.put(1, slot, *starts)
    with pytest.raises(ValueError, match="no such expert"):
        table.put(2, slot, 0, 0, 0)
    with pytest.raises(ValueError, match="differ in sizes"):
        ExpertTable(2, (q8, 32, 64), (q8, 16, 64), (q8, 64, 32), threads=1)
    with pytest.raises(ValueError, match="whole blocks"):
        ExpertTable(2, (q8, 32, 65), (q8, 32, 65), (q8, 65, 32), threads=1)
    with pytest.raises(ValueError, match="16"):
        ExpertTable(2, (q8 | _native.INTERLEAVED, 8, 64), (q8, 8, 64), (q8, 64, 8), threads=1)
