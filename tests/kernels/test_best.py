"""The best row of a split head is that of all products, to the bit, and a split weight is the same weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apportion.formats.blocks import FORMATS
from apportion.kernels import NativeOps, ReferenceOps, Weight, weight_from_floats
from apportion.kernels.ops import Best

MakeOps = Callable[..., NativeOps]

NONE = np.empty(0, np.int32)
best_of = ReferenceOps().best_logits
SHAPES = [(16, 32), (320, 64), (1024, 96), (1040, 640), (2064, 2048)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def panels_of(shape: tuple[int, int], seed: int = 0) -> Weight:
    """Codes with every bit pattern, and rows that are alike large as those of a vocabulary."""
    rng = np.random.default_rng(seed)
    num_blocks = shape[0] * shape[1] // 32
    data = rng.integers(0, 256, (num_blocks, 34), dtype=np.uint8)
    scales = np.abs(rng.standard_normal(num_blocks) * 0.01).astype(np.float16)
    data[:, :2] = scales[:, None].view(np.uint8)
    return Weight(FORMATS["q8_0"], shape, data.reshape(shape[0], -1)).interleave()


def split_of(weight: Weight, threads: int = 1) -> Weight:
    split = Weight(weight.format, weight.shape, weight.data.copy(), interleaved=True).parted(threads)
    assert split.split
    return split


def activations(num_tokens: int, num_cols: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_tokens, num_cols)).astype(np.float32)


def assert_same(found: Best, expected: Best) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.logits, expected.logits)


@every_shape
def test_a_split_weight_is_the_same_weight(make_ops: MakeOps, shape: tuple[int, int]) -> None:
    weight = panels_of(shape)
    split, ops = split_of(weight, threads=2), make_ops()
    assert split.nbytes == weight.nbytes
    np.testing.assert_array_equal(split.dequantize(), weight.dequantize())
    ids = np.arange(0, shape[0], 7, dtype=np.int32)
    np.testing.assert_array_equal(ops.embed(ids, split), ops.embed(ids, weight))
    for num_tokens in (1, 2, 5, 8, 9, 100):
        x = activations(num_tokens, shape[1])
        np.testing.assert_array_equal(ops.linear(x, split), ops.linear(x, weight))
    exact = make_ops(exact=True)
    x = activations(3, shape[1])
    np.testing.assert_array_equal(exact.linear(x, split), exact.linear(x, weight))


@every_shape
@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_is_that_of_all_products(make_ops: MakeOps, shape: tuple[int, int], threads: int) -> None:
    weight, ops = panels_of(shape), make_ops(threads)
    split = split_of(weight)
    for num_tokens in (1, 2, 7, 97):
        x = activations(num_tokens, shape[1], seed=num_tokens)
        logits = ops.linear(x, weight)
        assert_same(ops.best(x, split, shape[0], NONE), best_of(logits.copy(), shape[0], NONE))
        limit, without = shape[0] - 5, np.unique(logits.argmax(axis=1)).astype(np.int32)
        assert_same(ops.best(x, split, limit, without), best_of(logits, limit, without))


def test_most_of_a_head_is_ruled_out_by_its_upper_parts(make_ops: MakeOps) -> None:
    weight = weight_from_floats(FORMATS["q8_0"], activations(4096, 512, seed=2)).interleave()
    x = weight.dequantize()[[5, 4000]] / 512  # two rows that the states point to
    best = make_ops().best(x, split_of(weight), 4096, NONE)
    assert best.ids.tolist() == [5, 4000]
    assert best.share < 0.02


@pytest.mark.parametrize("signs", ["positive", "alternating"])
@pytest.mark.parametrize(("most", "least"), [(47, 40), (127, -128)])
def test_what_the_lower_parts_can_add_at_most_counts(
    make_ops: MakeOps, signs: str, most: int, least: int
) -> None:
    x = np.ones((1, 64), np.float32)
    if signs == "alternating":
        x[:, ::2] = -1
    codes = np.zeros((48, 64), np.int8)
    codes[20] = np.where(x > 0, most, least)  # the lower parts add as much as they can
    codes[3] = codes[20]
    codes[3, 1] -= 1  # and here, nearly
    data = np.zeros((48, 2, 34), np.uint8)
    data[:, :, :2] = np.ones(1, np.float16).view(np.uint8)
    data[:, :, 2:] = codes.reshape(48, 2, 32).view(np.uint8)
    weight = Weight(FORMATS["q8_0"], (48, 64), data.reshape(48, -1)).interleave()
    for num_tokens in (1, 3):
        best = make_ops().best(np.repeat(x, num_tokens, axis=0), split_of(weight), 48, NONE)
        assert best.ids.tolist() == [20] * num_tokens


@pytest.mark.parametrize("limit", [1, 37, 64])
def test_the_best_of_logits_that_are_there_is_the_references(make_ops: MakeOps, limit: int) -> None:
    logits = activations(6, 64)
    logits[1] = 3.0
    logits[2, [20, 9]] = np.nan
    logits[3] = -np.inf
    logits[4, 5] = np.inf
    for without in (NONE, np.array([0, 5, 36, 63], np.int32)):
        expected = best_of(logits.copy(), limit, without)
        assert_same(make_ops().best_logits(logits.copy(), limit, without), expected)


def test_of_equal_rows_the_first_is_the_best(make_ops: MakeOps) -> None:
    rows = np.tile(activations(16, 64), (70, 1))  # every panel is the same
    weight = weight_from_floats(FORMATS["q8_0"], rows).interleave()
    x = activations(4, 64, seed=5)
    best = make_ops(2).best(x, split_of(weight), len(rows), NONE)
    assert_same(best, best_of(make_ops().linear(x, weight), len(rows), NONE))
    assert (best.ids < 16).all()


def test_states_of_zeros_have_the_first_row(make_ops: MakeOps) -> None:
    best = make_ops(2).best(np.zeros((2, 64), np.float32), split_of(panels_of((1040, 64))), 1040, NONE)
    assert best.ids.tolist() == [0, 0]
    assert best.logits.tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_seen(make_ops: MakeOps, wrong: float) -> None:
    weight, ops = panels_of((1040, 64)), make_ops(2)
    x = activations(3, 64)
    x[1, 40] = wrong
    found = ops.best(x, split_of(weight), 1040, NONE)
    assert not np.isfinite(found.logits[1])
    expected = best_of(ops.linear(x, weight), 1040, NONE)
    np.testing.assert_array_equal(found.ids[[0, 2]], expected.ids[[0, 2]])
    data = panels_of((1040, 64)).in_rows().data.copy()
    data[777, 34:36] = np.array([wrong], np.float16).view(np.uint8)
    damaged = Weight(FORMATS["q8_0"], (1040, 64), data).interleave()
    if wrong > -np.inf:
        expected = best_of(ops.linear(x[:1], damaged), 1040, NONE)
        assert_same(ops.best(x[:1], split_of(damaged), 1040, NONE), expected)


def test_where_nothing_is_left_there_is_no_best(make_ops: MakeOps) -> None:
    split = split_of(panels_of((1040, 64)))
    best = make_ops().best(activations(2, 64), split, 3, np.arange(3, dtype=np.int32))
    assert best.ids.tolist() == [0, 0]
    assert best.logits.tolist() == [-np.inf, -np.inf]


def test_a_negative_scale_keeps_a_weight_whole() -> None:
    weight = panels_of((2048, 64))
    data = weight.in_rows().data.copy()
    data[2000, 35] |= 0x80  # the sign of the second block's scale
    panels = Weight(weight.format, weight.shape, data).interleave()
    before = panels.data.copy()
    assert panels.parted() is panels
    np.testing.assert_array_equal(panels.data, before)


def test_only_panels_of_q8_0_are_split() -> None:
    rows = activations(32, 256)
    for name in ("q4_0", "q6_k", "f16"):
        other = weight_from_floats(FORMATS[name], rows).interleave()
        assert other.parted() is other
    few = weight_from_floats(FORMATS["q8_0"], rows[:17])
    assert few.parted() is few
    split = split_of(panels_of((1024, 64)))
    assert split.parted() is split
    assert split.interleave() is split
    for apart in (lambda: split[:16], split.in_rows):
        with pytest.raises(ValueError, match="split"):
            apart()


def test_a_head_is_prepared_for_it(make_ops: MakeOps) -> None:
    rows = activations(64, 64)
    for prepared in (
        make_ops(exact=True).prepare_head(weight_from_floats(FORMATS["q8_0"], rows)),
        ReferenceOps().prepare_head(weight_from_floats(FORMATS["q8_0"], rows)),
    ):
        assert not prepared.split
    assert make_ops().prepare_head(weight_from_floats(FORMATS["q8_0"], rows)).split


def test_what_does_not_fit_is_refused(make_ops: MakeOps) -> None:
    ops, split, x = make_ops(), split_of(panels_of((1040, 64))), activations(2, 64)
    with pytest.raises(ValueError, match="so many rows"):
        ops.best(x, split, 1041, NONE)
    with pytest.raises(ValueError, match="in order"):
        ops.best(x, split, 1040, np.array([3, 1], np.int32))
    with pytest.raises(ValueError, match="too narrow"):
        ops.best(x[:, :16].copy(), split, 1040, NONE)
    with pytest.raises(ValueError, match="whole blocks"):
        ops.best(x[:, :48].copy(), split, 1040, NONE)
    with pytest.raises(ValueError, match="differ in tokens"):
        ops._core.best_rows(x, split.data, split.storage, 1040, NONE, np.empty(1, np.float32), NONE)
    exact, values, rows = make_ops(exact=True)._core, np.empty(2, np.float32), np.empty(2, np.int32)
    with pytest.raises(ValueError, match="rounded"):
        exact.best_rows(x, split.data, split.storage, 1040, NONE, values, rows)
    assert len(ops.best(x[:0], split, 1040, NONE).ids) == 0


def test_other_backends_find_it_among_all_logits() -> None:
    rows, x = activations(64, 64), activations(3, 64, seed=9)
    ops = ReferenceOps()
    weight = ops.prepare_head(weight_from_floats(FORMATS["q8_0"], rows))
    assert_same(ops.best(x, weight, 60, NONE), best_of(ops.linear(x, weight), 60, NONE))
