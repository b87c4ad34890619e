"""Attention over codes against the reference, which decodes pages first; and what the core writes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from apportion.formats.block import Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import KvPool, KvTable, LayerShape, NativeOps, ReferenceOps, Segment, page_layout
from apportion.kernels import weight_from_floats as weight
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.kv_codecs import CODECS
from apportion.kernels.kv_rows import read_rows, write_page
from apportion.kernels.steps import Attention, Product, Rotary, Steps

MakeOps = Callable[..., NativeOps]
HIDDEN = 32
CODED = ("bf16", "q8", "q4")
ALL_LIVE = 0xFFFFFFFF


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Attending:
    """`kernels.steps.Forward` of one layer that does nothing but attend."""

    num_layers = 1
    hidden_size = HIDDEN
    vocab_size = 4

    def __init__(self, shape: LayerShape, per_head: int, window: int = 0) -> None:
        self.shape = shape
        self.num_heads = shape.num_heads * per_head
        rotary = Rotary(np.float32(0.3) ** np.arange(3, dtype=np.float32), "half")
        self.attention = Attention(
            0, self.num_heads, shape.num_heads, shape.key_width, shape.value_width, rotary, 0.2, window=window
        )
        rows = [self.num_heads * shape.key_width, shape.num_heads * shape.key_width]
        rows += [] if shape.joint else [shape.num_heads * shape.value_width]
        self.products = [
            Product(weight(FORMATS["f32"], random(i, n, HIDDEN) / 6)) for i, n in enumerate(rows)
        ]
        self.table = weight(FORMATS["f32"], random(7, 4, HIDDEN))
        self.out = Product(weight(FORMATS["f32"], random(9, HIDDEN, self.num_heads * shape.value_width) / 4))

    def embed(self, steps: Steps[Any]) -> Any:
        return steps.embed(self.table)

    def layer(self, steps: Steps[Any], layer: int, x: Any) -> Any:
        q, k, *v = steps.project(x, self.products)
        return steps.add_product(x, steps.attend(q, k, v[0] if v else None, self.attention), self.out)

    def head(self, steps: Steps[Any], x: Any) -> Any:
        (logits,) = steps.project(x, [Product(self.table)])
        return logits


def new_table(
    shape: LayerShape,
    codecs: Sequence[str],
    live: Sequence[int] | None = None,
    smoothing: Sequence[Floats] = (),
) -> KvTable:
    """A block in each of these codecs, full of numbers; what is dead is no number."""
    table = KvTable()
    for index, codec in enumerate(codecs):
        layout = page_layout([shape], codec)
        pool = KvPool(layout, np.full(layout.block_nbytes, 0xFF, np.uint8), smoothing)
        mask = ALL_LIVE if live is None else live[index]
        table.append(pool, 0, mask)
        rows = (mask >> np.arange(BLOCK_TOKENS) & 1).astype(bool)
        for head in range(shape.num_heads):
            keys = random(100 * index + head, BLOCK_TOKENS, shape.key_width)
            values = random(100 * index + 50 + head, BLOCK_TOKENS, shape.value_width) + 1
            keys[~rows] = values[~rows] = np.nan
            write_page(table.blocks[index], 0, head, 0, keys, None if shape.joint else values)
    return table


SHAPES = [
    LayerShape(2, 64, 64),
    LayerShape(1, 20, 12),
    LayerShape(3, 17, 9),
    LayerShape(1, 130, 128),
    LayerShape(1, 72, 64, joint=True),
    LayerShape(1, 41, 30, joint=True),
]


@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.num_heads}x{shape.key_width}")
@pytest.mark.parametrize("per_head", [1, 3, 4])
def test_attention_over_codes_is_that_over_what_they_stand_for(
    make_ops: MakeOps, codec: str, shape: LayerShape, per_head: int
) -> None:
    forward = Attending(shape, per_head)
    # Codes and floats in turns, more than the 128 places that give one partial result.
    codecs = ["f16", codec, codec, "f32", codec, "f32"]
    for num_tokens in (1, 7):
        x = random(num_tokens, num_tokens, HIDDEN)
        start = 5 * BLOCK_TOKENS + 3
        theirs = (
            ReferenceOps()
            .program(forward)
            .run(x, [Segment(new_table(shape, codecs), start, num_tokens)], 0, None, "hidden")
        )
        for threads in (1, 2):
            program = make_ops(threads, exact=True).program(forward)
            ours = program.run(x, [Segment(new_table(shape, codecs), start, num_tokens)], 0, None, "hidden")
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("window", [0, 20, 100])
def test_dead_places_and_those_outside_of_a_window_are_passed_over(
    make_ops: MakeOps, codec: str, window: int
) -> None:
    shape, live = LayerShape(2, 20, 24), [0x00FF00FF, ALL_LIVE, 0, 0x80000001, ALL_LIVE]
    forward = Attending(shape, 2, 0)
    codecs, start = [codec] * 4 + ["f32"], 4 * BLOCK_TOKENS
    x = random(1, 5, HIDDEN)
    if not window:
        theirs = (
            ReferenceOps()
            .program(forward)
            .run(x, [Segment(new_table(shape, codecs, live), start, 5)], 0, None, "hidden")
        )
        ours = (
            make_ops(2, exact=True)
            .program(forward)
            .run(x, [Segment(new_table(shape, codecs, live), start, 5)], 0, None, "hidden")
        )
    else:
        forward = Attending(shape, 2, window)
        theirs = (
            ReferenceOps()
            .program(forward)
            .run(x, [Segment(new_table(shape, codecs), start, 5)], 0, None, "hidden")
        )
        ours = (
            make_ops(2, exact=True)
            .program(forward)
            .run(x, [Segment(new_table(shape, codecs), start, 5)], 0, None, "hidden")
        )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.num_heads}x{shape.key_width}")
@pytest.mark.parametrize("per_head", [1, 3, 4])
def test_queries_that_bytes_can_hold_meet_nibbles_without_loss(
    make_ops: MakeOps, shape: LayerShape, per_head: int
) -> None:
    q = np.random.default_rng(1).integers(-126, 127, (7, shape.num_heads * per_head, shape.key_width))
    q[..., -1] = 127
    queries = q.astype(np.float32) / 64
    segments = [Segment(new_table(shape, ["q4"] * 6), 5 * BLOCK_TOKENS + 3, 7)]
    theirs = ReferenceOps().attend(queries, segments, 0, 0.1)
    ours = make_ops().attend(queries, segments, 0, 0.1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [64, 20, 130])
def test_rounding_queries_to_bytes_costs_little_and_only_where_it_may(make_ops: MakeOps, width: int) -> None:
    shape = LayerShape(2, width, 64)
    queries = random(2, 1, 6, width)
    segments = [Segment(new_table(shape, ["q4"] * 6), 5 * BLOCK_TOKENS + 3, 1)]
    theirs = ReferenceOps().attend(queries, segments, 0, width**-0.5)
    exact = make_ops(exact=True).attend(queries, segments, 0, width**-0.5)
    rounded = make_ops().attend(queries, segments, 0, width**-0.5)
    np.testing.assert_allclose(exact, theirs, rtol=1e-4, atol=1e-4)
    assert 1e-5 < np.abs(rounded - theirs).max() < 0.01


def test_a_query_that_is_no_number_gives_none(make_ops: MakeOps) -> None:
    shape = LayerShape(1, 64, 64)
    queries = random(2, 1, 3, 64)
    queries[0, 1, 5] = np.nan
    out = make_ops().attend(queries, [Segment(new_table(shape, ["q4"] * 2), BLOCK_TOKENS + 3, 1)], 0, 0.1)
    assert np.isnan(out[0, 1]).all()
    assert np.isfinite(out[0, [0, 2]]).all()


@pytest.mark.parametrize("codec", CODED)
@pytest.mark.parametrize("per_head", [1, 3, 5])
def test_a_token_alone_gives_the_same_bits_as_among_others(
    make_ops: MakeOps, codec: str, per_head: int
) -> None:
    shape = LayerShape(2, 40, 24)
    program = make_ops(2).program(Attending(shape, per_head))
    codecs = [codec] * 7
    tables = [new_table(shape, codecs) for _ in range(3)]
    x, start = random(3, 50, HIDDEN), 5 * BLOCK_TOKENS + 7
    together = program.run(x, [Segment(tables[0], start, 50)], 0, None, "hidden")
    beside = program.run(
        np.concatenate([random(4, 9, HIDDEN), x]),
        [Segment(new_table(shape, codecs), 60, 9), Segment(tables[1], start, 50)],
        0,
        None,
        "hidden",
    )
    np.testing.assert_array_equal(beside[9:], together)
    for token in range(50):
        segment = Segment(tables[2], start + token, 1)
        alone = program.run(x[token : token + 1], [segment], 0, None, "hidden")
        np.testing.assert_array_equal(alone[0], together[token])
    for one in tables[1:]:
        np.testing.assert_array_equal(one.blocks[6].pool.memory, tables[0].blocks[6].pool.memory)


@pytest.mark.parametrize("codec", CODECS.names())
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.num_heads}x{shape.key_width}")
def test_rows_are_written_in_the_codec_of_their_page(
    make_ops: MakeOps, codec: str, shape: LayerShape
) -> None:
    forward, x = Attending(shape, 1), random(5, 40, HIDDEN)
    exact, coded = (new_table(shape, [name] * 3) for name in ("f32", codec))
    program = make_ops(2).program(forward)
    for table in (exact, coded):
        program.run(x, [Segment(table, 30, 40)], 0, None, "hidden")
    for head in range(shape.num_heads):
        numbers, found = (read_rows(table, 0, head, 70) for table in (exact, coded))
        stored = KvPool.of(coded.blocks[0].pool.layout, 1)
        layout = stored.layout.layers[0]
        page = np.zeros(layout.head.nbytes, np.uint8)
        some = slice(32, 64)  # rows of one page
        layout.head.encode(page, 0, numbers[0][some], None if shape.joint else numbers[1][some])
        for ours, theirs in zip(found, layout.head.decode(page), strict=True):
            np.testing.assert_array_equal(ours[some], theirs)


@pytest.mark.parametrize("codec", CODECS.names())
@pytest.mark.parametrize("source", ["f16", "f32", "q8"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.num_heads}x{shape.key_width}")
def test_a_block_becomes_codes_as_the_reference_has_them(codec: str, source: str, shape: LayerShape) -> None:
    table = new_table(shape, [source])
    block = table.blocks[0]
    target = KvPool.of(page_layout([shape], codec), 2)
    target.encode(1, block.pool, 0)
    expected = np.zeros_like(target.blocks)
    for head in range(shape.num_heads):
        keys, values = read_rows(table, 0, head, BLOCK_TOKENS)
        layout = target.layout.layers[0]
        page = expected[1, head * layout.head_nbytes :][: layout.head.nbytes]
        layout.head.encode(page, 0, keys, None if shape.joint else values)
        ours = target.blocks[1, head * layout.head_nbytes :][: layout.head.nbytes]
        np.testing.assert_array_equal(ours, page)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("codec", CODED)
def test_what_is_no_number_is_coded_as_the_reference_has_it(codec: str, bad: float) -> None:
    shape = LayerShape(1, 24, 24)
    table = new_table(shape, ["f32"])
    pool = table.blocks[0].pool
    pool.memory[: 32 * 96].view(np.float32).reshape(32, 24)[[3, 9], [0, 23]] = bad
    target = KvPool.of(page_layout([shape], codec), 1)
    target.encode(0, pool, 0)
    expected, head = np.zeros(target.layout.layers[0].head.nbytes, np.uint8), target.layout.layers[0].head
    keys, values = read_rows(table, 0, 0, BLOCK_TOKENS)
    head.encode(expected, 0, keys, values)
    for ours, theirs in zip(head.decode(target.blocks[0]), head.decode(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("per_head", [1, 3])
def test_smoothing_changes_nothing_but_what_is_stored(make_ops: MakeOps, per_head: int) -> None:
    shape = LayerShape(2, 20, 20)
    factors = [np.exp(random(6, 2, 20))]
    x = random(7, 40, HIDDEN)
    program = make_ops(2, exact=True).program(Attending(shape, per_head))
    plain, smooth = new_table(shape, ["f32"] * 2), new_table(shape, ["f32"] * 2, smoothing=factors)
    runs = [program.run(x, [Segment(table, 0, 40)], 0, None, "hidden") for table in (plain, smooth)]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5, atol=1e-5)
    for head in range(2):
        (keys, values), (smoothed, same) = (read_rows(table, 0, head, 40) for table in (plain, smooth))
        np.testing.assert_allclose(smoothed * factors[0][head], keys, rtol=1e-6)
        np.testing.assert_array_equal(values, same)
    reference = ReferenceOps().program(Attending(shape, per_head))
    theirs = reference.run(
        x, [Segment(new_table(shape, ["f32"] * 2, smoothing=factors), 0, 40)], 0, None, "hidden"
    )
    np.testing.assert_allclose(runs[1], theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("factors", "what"),
    [
        ([], ""),
        ([np.ones((2, 20), np.float32)] * 2, "more layers"),
        ([np.ones((2, 19), np.float32)], "key width"),
        ([np.zeros((2, 20), np.float32)], "positive"),
        ([np.full((2, 20), np.nan, np.float32)], "positive"),
    ],
)
def test_factors_that_do_not_fit_are_refused(factors: list[Floats], what: str) -> None:
    layout = page_layout([LayerShape(2, 20, 20)], "q4")
    if not what:
        assert KvPool.of(layout, 1, factors).smoothing == ()
        return
    with pytest.raises(ValueError, match=what):
        KvPool.of(layout, 1, factors)


def test_blocks_of_other_models_are_not_encoded() -> None:
    pool = KvPool.of(page_layout([LayerShape(2, 20, 20)], "q4"), 2)
    with pytest.raises(ValueError, match="heads or sizes"):
        pool.encode(0, KvPool.of(page_layout([LayerShape(2, 20, 21)], "f16"), 2), 0)
    with pytest.raises(ValueError, match="no such block"):
        pool.encode(0, KvPool.of(page_layout([LayerShape(2, 20, 20)], "f16"), 2), 2)


def test_rows_of_a_block_are_encoded_alone() -> None:
    shape = LayerShape(2, 20, 20)
    table = new_table(shape, ["f16"])
    whole, some = (KvPool.of(page_layout([shape], "q4"), 1) for _ in range(2))
    whole.encode(0, table.blocks[0].pool, 0)
    for rows in (range(3), range(3, 31), range(31, 32), range(5, 5)):
        some.encode(0, table.blocks[0].pool, 0, rows)
    used = 2 * whole.layout.layers[0].head_nbytes
    np.testing.assert_array_equal(some.blocks[0, :used], whole.blocks[0, :used])
    with pytest.raises(ValueError, match="no such rows"):
        some.encode(0, table.blocks[0].pool, 0, range(30, 33))
