"""Recorded programs against steps done at once: by the reference nearly, by the core bit for bit."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernels.tables import alone, new_table, random

from apportion.formats.block import Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import (
    ExpertWeights,
    KvTable,
    LayerShape,
    NativeOps,
    ReferenceOps,
    Routing,
    Segment,
    Weight,
    weight_from_floats,
)
from apportion.kernels.eager import EagerProgram
from apportion.kernels.kv_rows import read_rows, write_rows
from apportion.kernels.record import NativeProgram
from apportion.kernels.steps import Attention, Product, Rotary, Steps

MakeOps = Callable[..., NativeOps]
MakeWeight = Callable[..., Weight]
Layer = Callable[[Any, int, Any], Any]

few = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
tokens = st.one_of(st.integers(1, 9), st.integers(120, 140))
seeds = st.integers(0, 999)


def floats(seed: int, *shape: int) -> Weight:
    """A float32 matrix that keeps numbers at order one."""
    return weight_from_floats(FORMATS["f32"], random(seed, *shape) / np.float32(np.sqrt(shape[-1])))


class Pass:
    """A forward pass whose layers are all `layer`."""

    def __init__(
        self, layer: Layer, hidden_size: int, num_layers: int = 1, head: Layer | None = None
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.table = floats(90, 50, hidden_size)
        self.classes = floats(91, 37, hidden_size)
        self.vocab_size = 37
        self._layer = layer

    def embed(self, steps: Steps[Any]) -> Any:
        return steps.embed(self.table, 2.0)

    def layer(self, steps: Steps[Any], layer: int, x: Any) -> Any:
        return self._layer(steps, layer, x)

    def head(self, steps: Steps[Any], x: Any) -> Any:
        (logits,) = steps.project(x, [Product(self.classes)])
        return steps.bound(logits, 0.5, 3.0)


def check(
    make_ops: MakeOps,
    forward: Pass,
    x: Floats,
    table: Callable[[], KvTable | None] = lambda: None,
    start: int = 0,
) -> Floats:
    """The layers' hidden states; exact ones are the reference's, and two threads change nothing."""

    def batch() -> list[Segment] | None:
        own = table()
        return None if own is None else [Segment(own, start, len(x))]

    exact = make_ops(threads=2, exact=True).program(forward).run(x, batch(), want="hidden")
    theirs = ReferenceOps().program(forward).run(x, batch(), want="hidden")
    np.testing.assert_allclose(exact, theirs, rtol=2e-4, atol=2e-4 * np.abs(theirs).max())
    ours = make_ops(threads=2).program(forward).run(x, batch(), want="hidden")
    at_once = EagerProgram(make_ops(), forward).run(x, batch(), want="hidden")
    np.testing.assert_array_equal(ours, at_once)
    np.testing.assert_array_equal(make_ops().program(forward).run(x, batch(), want="hidden"), ours)
    return ours


@few
@given(
    num_tokens=tokens,
    rows=st.tuples(*[st.integers(1, 70)] * 3),
    scale=st.sampled_from([1.0, 0.3]),
    seed=seeds,
)
@pytest.mark.parametrize(
    "names",
    [("q4_k", "q6_k", "f16"), ("q8_0", "q8_0", "q8_0"), ("q4_1", "iq4_nl", "q5_0"), ("f32", "bf16", "q2_k")],
)
def test_products_of_one_input_may_differ_in_rows_and_formats(
    make_ops: MakeOps,
    make_weight: MakeWeight,
    names: tuple[str, ...],
    num_tokens: int,
    rows: tuple[int, ...],
    scale: float,
    seed: int,
) -> None:
    weights = [
        make_weight(FORMATS[name], (n, 256), seed + i)
        for i, (name, n) in enumerate(zip(names, rows, strict=True))
    ]
    products = [
        Product(weight, random(seed + i, weight.shape[0]) if i % 2 else None)
        for i, weight in enumerate(weights)
    ]
    back = [Product(floats(i, 256, n), random(i, 256)) for i, n in enumerate(rows)]

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        for part, product in zip(steps.project(x, products), back, strict=True):
            x = steps.add_product(x, part, product, scale)
        return x

    check(make_ops, Pass(layer, 256), random(seed, num_tokens, 256))


@few
@given(num_tokens=tokens, inner=st.integers(1, 70), seed=seeds)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "swiglu_oai"])
@pytest.mark.parametrize("names", [("q4_0", "q4_0"), ("q6_k", "q8_0"), ("f16", "q4_k")])
def test_a_gated_product_stores_neither_factor_and_equals_both(
    make_ops: MakeOps,
    make_weight: MakeWeight,
    names: tuple[str, str],
    kind: Any,
    num_tokens: int,
    inner: int,
    seed: int,
) -> None:
    gate, up = (make_weight(FORMATS[name], (inner, 256), seed + i) for i, name in enumerate(names))
    down = Product(floats(1, 256, inner))

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        return steps.add_product(x, steps.gated(x, gate, up, kind), down)

    check(make_ops, Pass(layer, 256), random(seed, num_tokens, 256) / 4)


@few
@given(
    num_tokens=tokens, heads=st.integers(1, 4), rows=st.integers(1, 40), keep=st.integers(0, 5), seed=seeds
)
def test_heads_have_matrices_of_their_own_and_keep_the_rest(
    make_ops: MakeOps, make_weight: MakeWeight, num_tokens: int, heads: int, rows: int, keep: int, seed: int
) -> None:
    weight = make_weight(FORMATS["q8_0"], (heads, rows, 64), seed)
    into, back = floats(1, heads * (64 + keep), 96), Product(floats(2, 96, heads * (rows + keep)))

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        (y,) = steps.project(x, [Product(into)])
        return steps.add_product(x, steps.project_heads(y, weight, keep), back)

    check(make_ops, Pass(layer, 96), random(seed, num_tokens, 96))


@few
@given(
    num_tokens=tokens,
    normed=st.booleans(),
    scale=st.sampled_from([1.0, 0.2]),
    width=st.integers(1, 90),
    seed=seeds,
)
def test_sums_are_normalized_scaled_and_gated(
    make_ops: MakeOps, num_tokens: int, normed: bool, scale: float, width: int, seed: int
) -> None:
    weight, norm = random(seed, width), random(seed + 1, width) if normed else None
    square, gate = Product(floats(1, width, width)), Product(floats(2, 1, width))

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        y, g = steps.project(steps.rms_norm(x, weight, 1e-5), [square, gate])
        x = steps.add(x, y, scale, norm, 1e-6)
        (y,) = steps.project(x, [square])
        return steps.add_gated(x, y, g)

    x = random(seed, num_tokens, width) * 3
    program = make_ops(threads=2, exact=True).program(Pass(layer, width))
    ours = program.run(x, None, want="hidden")
    theirs = ReferenceOps().program(Pass(layer, width)).run(x, None, want="hidden")
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    alone = [program.run(x[i : i + 1], None, want="hidden") for i in range(num_tokens)]
    np.testing.assert_array_equal(np.concatenate(alone), ours)


@few
@given(
    num_tokens=st.integers(1, 40),
    start=st.integers(0, 20),
    norms=st.sampled_from(["none", "head", "all", "part"]),
    clip=st.sampled_from([0.0, 0.7]),
    style=st.sampled_from(["half", "interleaved"]),
    rotated_from=st.integers(0, 4),
    shared=st.booleans(),
    seed=seeds,
)
@pytest.mark.parametrize("codec", ["f16", "f32"])
def test_queries_and_keys_are_normalized_clipped_rotated_appended_and_attended(
    make_ops: MakeOps,
    codec: str,
    num_tokens: int,
    start: int,
    norms: str,
    clip: float,
    style: Any,
    rotated_from: int,
    shared: bool,
    seed: int,
) -> None:
    A, G, D, Dv, H = 4, 1 if shared else 2, 20, 12, 48
    widths = {"none": None, "head": (D, D), "all": (A * D, G * D), "part": (D - 5, D - 5)}[norms]
    norm = [None, None] if widths is None else [random(i, width) for i, width in enumerate(widths)]
    rotary = Rotary(np.float32(0.1) ** np.arange(8, dtype=np.float32), style, 1.25)
    products = [Product(floats(i, n, H)) for i, n in enumerate((A * D, G * D, G * Dv))]
    out = Product(floats(3, H, A * Dv))
    attention = Attention(
        0, A, G, D, Dv, rotary, 0.3, rotated_from, 7, 20.0, random(7, A), clip, norm[0], norm[1], 1e-6
    )
    tables: list[KvTable] = []

    def table() -> KvTable:
        tables.append(new_table(64, LayerShape(G, D, Dv, shared), codec))
        write_rows(tables[-1], 0, 0, random(5, 64, G, D), None if shared else random(6, 64, G, Dv))
        return tables[-1]

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        q, k, *v = steps.project(x, products[: 2 if shared else 3])
        return steps.add_product(x, steps.attend(q, k, v[0] if v else None, attention), out)

    check(make_ops, Pass(layer, H), random(seed, num_tokens, H), table, start)
    for head in range(G):
        exact, theirs, ours, at_once, one_thread = (read_rows(one, 0, head, 64) for one in tables)
        for part in range(2):
            np.testing.assert_array_equal(ours[part], at_once[part])
            np.testing.assert_array_equal(ours[part], one_thread[part])
            np.testing.assert_allclose(exact[part], theirs[part], rtol=2e-3, atol=2e-3)


@few
@given(num_tokens=tokens, seed=seeds)
def test_tokens_go_to_their_experts(
    make_ops: MakeOps, make_weight: MakeWeight, num_tokens: int, seed: int
) -> None:
    E, F, H = 6, 32, 64
    router, routing = Product(floats(1, E, H), random(2, E)), Routing(2, normalize=True)
    experts = ExpertWeights(
        make_weight(FORMATS["q4_0"], (E, F, H), 3),
        make_weight(FORMATS["q8_0"], (E, F, H), 4),
        make_weight(FORMATS["q4_1"], (E, H, F), 5),
        down_bias=random(6, E, H),
    )

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        (scores,) = steps.project(x, [router])
        ids, weights = steps.route(scores, routing, random(7, E))
        return steps.add(x, steps.experts(x, ids, weights, experts, "silu"))

    check(make_ops, Pass(layer, H), random(seed, num_tokens, H) / 4)


def double(steps: Steps[Any], layer: int, x: Any) -> Any:
    """A layer that adds something to its input."""
    (y,) = steps.project(x, [Product(floats(layer, 16, 16))])
    return steps.add(x, y)


IDS = np.array([3, 49, 0, 7, 7], np.int32)


def test_logits_of_the_last_token_are_the_last_of_all(make_ops: MakeOps) -> None:
    program = make_ops(threads=2).program(Pass(double, 16, 3))
    last, every = program.run(IDS, None), program.run(IDS, None, want="all")
    assert last.shape == (1, 37)
    np.testing.assert_array_equal(last, every[-1:])
    expected = EagerProgram(ReferenceOps(), Pass(double, 16, 3)).run(IDS, None, want="all")
    np.testing.assert_allclose(every, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(every).max() <= 3


def test_a_run_may_stop_before_any_layer_and_go_on_there(make_ops: MakeOps) -> None:
    program = make_ops(threads=2).program(Pass(double, 16, 3))
    x = program.run(IDS, None, 0, 1, want="hidden")
    x = program.run(x, None, 1, 3, want="hidden")
    whole = program.run(IDS, None, want="all")
    np.testing.assert_array_equal(program.run(x, None, 3, want="all"), whole)
    np.testing.assert_array_equal(program.run(x, None, 3), whole[-1:])


def test_a_row_of_logits_that_somebody_holds_stays_and_one_that_nobody_holds_is_used_again(
    make_ops: MakeOps,
) -> None:
    program = make_ops().program(Pass(double, 16, 3))
    expected = [program.run(IDS[t : t + 1], None).copy() for t in range(5)]
    held = [program.run(IDS[t : t + 1], None)[0, 3:9] for t in range(5)]  # the parts hold their rows
    for part, whole in zip(held, expected, strict=True):
        np.testing.assert_array_equal(part, whole[0, 3:9])
    last, places = None, set()
    for t in range(5):
        last = program.run(IDS[t : t + 1], None)  # while the one before is held
        np.testing.assert_array_equal(last, expected[t])
        places.add(last.ctypes.data)
    assert len(places) == 2


def test_runs_of_any_length_follow_one_another(make_ops: MakeOps) -> None:
    program = make_ops().program(Pass(double, 16, 2))
    for count in (1, 300, 2, 5, 301):
        ids = np.arange(count, dtype=np.int32) % 50
        whole = program.run(ids, None, want="all")
        np.testing.assert_array_equal(program.run(ids[-1:], None), whole[-1:])


def test_buffers_of_one_layer_serve_the_next() -> None:
    shallow, deep = (NativeOps(1).program(Pass(double, 16, layers)) for layers in (2, 50))
    assert isinstance(shallow, NativeProgram)
    assert shallow.nbytes_per_token == deep.nbytes_per_token <= 4 * (16 + 16 + 16)


def test_a_value_that_was_changed_cannot_be_used() -> None:
    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        double(steps, layer, x)
        return x

    with pytest.raises(AssertionError, match="changed"):
        NativeOps(1).program(Pass(layer, 16))


def test_only_the_hidden_states_may_pass_from_layer_to_layer() -> None:
    kept = []

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        kept.append(steps.rms_norm(x, np.ones(16, np.float32), 0.0))
        return steps.add(x, kept[0])

    with pytest.raises(AssertionError, match="changed"):
        NativeOps(1).program(Pass(layer, 16, 2))
    kept.clear()

    def other(steps: Steps[Any], layer: int, x: Any) -> Any:
        kept.append(steps.rms_norm(x, np.ones(16, np.float32), 0.0))
        return steps.add_product(x, kept[0], Product(floats(1, 16, 16)))

    with pytest.raises(ValueError, match="from one layer to another"):
        NativeOps(1).program(Pass(other, 16, 2))


def test_steps_that_do_not_fit_each_other_are_refused() -> None:
    def projecting(weight: Weight, bias: Floats | None = None) -> Layer:
        return lambda steps, layer, x: steps.add_product(x, x, Product(weight, bias))

    for layer, what in (
        (projecting(floats(1, 16, 17)), "as wide"),
        (projecting(floats(1, 17, 16)), "width"),
        (projecting(floats(1, 16, 16), random(1, 3)), "bias"),
        (lambda steps, layer, x: steps.rms_norm(x, random(1, 15), 0.0), "weight"),
        (lambda steps, layer, x: steps.project_heads(x, floats(1, 2, 4, 9)), "heads"),
    ):
        with pytest.raises(ValueError, match=what):
            NativeOps(1).program(Pass(layer, 16))


def attending(num_layers: int = 1) -> Pass:
    rotary = Rotary(np.ones(4, np.float32), "half")
    out = Product(floats(4, 16, 16))

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        q, k, v = steps.project(x, [Product(floats(i, 16, 16)) for i in range(3)])
        return steps.add_product(x, steps.attend(q, k, v, Attention(layer, 2, 2, 8, 8, rotary, 1.0)), out)

    return Pass(layer, 16, num_layers)


def empty(shape: LayerShape = LayerShape(2, 8, 8), layers: int = 1) -> KvTable:  # noqa: B008
    return new_table(64, shape, layers=layers)


@pytest.mark.parametrize(
    ("table", "start", "ids", "what"),
    [
        ({}, 60, IDS, "no room"),
        ({}, 2**63, IDS, "no room"),
        ({"shape": LayerShape(2, 9, 8)}, 0, IDS, "heads or sizes"),
        ({"shape": LayerShape(2, 8, 7)}, 0, IDS, "heads or sizes"),
        ({"shape": LayerShape(2, 8, 8, joint=True)}, 0, IDS, "heads or sizes"),
        ({"layers": 2}, 0, IDS, "layers"),
        (None, 0, IDS, "tables"),
        ({}, 0, IDS[:4], "number of tokens"),
        ({}, 0, IDS - 1, "id -1 is outside"),
        ({}, 0, IDS + 1, "id 50 is outside"),
        ({}, 0, IDS[:0], "no tokens"),
        ({}, 0, IDS.astype(np.int64), "type"),
        ({}, 0, np.zeros((2, 17), np.float32), "another width"),
    ],
)
def test_runs_that_do_not_fit_are_refused_before_anything_is_written(
    table: dict[str, Any] | None, start: int, ids: Any, what: str
) -> None:
    own = None if table is None else empty(**table)
    with pytest.raises(ValueError, match=what):
        NativeOps(2).program(attending()).run(ids, None if own is None else alone(own, start, 5))
    if own is not None:
        assert not own.blocks[0].pool.memory.any()
        own.truncate(0)  # nobody uses it any more


def test_a_program_keeps_its_pools_alive() -> None:
    expected = EagerProgram(NativeOps(1), attending(3)).run(IDS, alone(empty(layers=3), 0, 5))
    program, table = NativeOps(1).program(attending(3)), empty(layers=3)
    table._pages.clear()
    gc.collect()
    _ = [np.full((16, 16), np.nan, np.float32) for _ in range(200)]
    np.testing.assert_allclose(program.run(IDS, alone(table, 0, 5)), expected, atol=1e-5)


def test_callers_share_a_program_one_after_the_other() -> None:
    program = NativeOps(2).program(attending(3))
    expected = program.run(IDS, alone(empty(layers=3), 0, 5))
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(50):
            table = empty(layers=3)
            program.run(IDS[:4], alone(table, 0, 4))
            if not np.array_equal(program.run(IDS[4:], alone(table, 4, 1)), expected):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
def test_a_signal_interrupts_a_long_run() -> None:
    square = Product(floats(1, 512, 512))

    def layer(steps: Steps[Any], layer: int, x: Any) -> Any:
        return steps.add_product(x, x_normed(steps, x), square)

    def x_normed(steps: Steps[Any], x: Any) -> Any:
        return steps.rms_norm(x, np.ones(512, np.float32), 1e-5)

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    program = NativeOps(1).program(Pass(layer, 512, 2000))
    before = signal.signal(signal.SIGALRM, raise_interrupt)
    begin = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            program.run(random(1, 256, 512), None, want="hidden")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - begin < 5
    assert program.run(random(1, 1, 512), None, 0, 5, "hidden").shape == (1, 512)
