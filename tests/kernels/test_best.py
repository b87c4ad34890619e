"""The best row of a split head is that of all products, to the bit, and a split weight is the same weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apportion import _native
from apportion.formats.blocks import FORMATS
from apportion.kernels import NativeOps, ReferenceOps, Weight, eager, weight_from_floats
from apportion.kernels.ops import Best, BestOf
from apportion.kernels.record import SOME_ROWS, parts

MakeOps = Callable[..., NativeOps]

LAST, ALL = 1, 2
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


def head_of(ops: NativeOps, weight: Weight) -> _native.Program:
    """A program of no layers whose head is the weight."""
    program = _native.Program(ops.isa, ops.threads, ops.exact)
    x = program.input(weight.shape[1])
    program.mark(x)
    program.finish(*program.project(x, [parts(weight)]))
    return program


def find(ops: NativeOps, x: np.ndarray, weight: Weight, of: BestOf, out: np.ndarray | None) -> Best:
    return found_by(head_of(ops, weight), x, of, out=out)


def found_by(
    head: _native.Program,
    x: np.ndarray,
    of: BestOf,
    want: int = ALL,
    rows: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> Best:
    found = head.run(None, x, 0, 0, want, rows, out, of)
    assert found is not None
    return Best(*found)


def best(ops: NativeOps, x: np.ndarray, weight: Weight, of: BestOf) -> Best:
    return find(ops, x, weight, of, None)


def best_of(logits: np.ndarray, of: BestOf) -> Best:
    return eager.best_of(logits.copy(), of)


def assert_same(found: Best, expected: Best) -> None:
    assert found.ids == expected.ids
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
        without = tuple(np.unique(logits.argmax(axis=1)).tolist())
        for of in (BestOf(shape[0]), BestOf(shape[0] - 5, without)):
            assert_same(best(ops, x, split, of), best_of(logits, of))


def test_most_of_a_head_is_ruled_out_by_its_upper_parts(make_ops: MakeOps) -> None:
    weight = weight_from_floats(FORMATS["q8_0"], activations(4096, 512, seed=2)).interleave()
    x = weight.dequantize()[[5, 4000]] / 512  # two rows that the states point to
    found = best(make_ops(), x, split_of(weight), BestOf(4096))
    assert found.ids == [5, 4000]
    assert found.share < 0.02


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
        found = best(make_ops(), np.repeat(x, num_tokens, axis=0), split_of(weight), BestOf(48))
        assert found.ids == [20] * num_tokens


@pytest.mark.parametrize("limit", [1, 37, 64, 70])
def test_among_all_logits_it_is_the_references(make_ops: MakeOps, limit: int) -> None:
    ops, x = make_ops(), activations(6, 64)
    x[1] = 0
    x[2] = np.nan
    x[4, 3] = np.inf
    weight = weight_from_floats(FORMATS["f32"], activations(64, 64, seed=2))
    logits, room = ops.linear(x, weight), np.empty((6, 64), np.float32)
    for of in (BestOf(limit), BestOf(limit, (0, 5, 36, 63, 66))):
        found = find(ops, x, weight, of, room)
        assert_same(found, best_of(logits, of))
        assert found.share == 1


def test_of_equal_rows_the_first_is_the_best(make_ops: MakeOps) -> None:
    rows = np.tile(activations(16, 64), (70, 1))  # every panel is the same
    weight = weight_from_floats(FORMATS["q8_0"], rows).interleave()
    x = activations(4, 64, seed=5)
    found = best(make_ops(2), x, split_of(weight), BestOf(len(rows)))
    assert_same(found, best_of(make_ops().linear(x, weight), BestOf(len(rows))))
    assert max(found.ids) < 16


def test_states_of_zeros_have_the_first_row(make_ops: MakeOps) -> None:
    found = best(make_ops(2), np.zeros((2, 64), np.float32), split_of(panels_of((1040, 64))), BestOf(1040))
    assert found.ids == [0, 0]
    assert found.logits == [0, 0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_seen(make_ops: MakeOps, wrong: float) -> None:
    weight, ops, of = panels_of((1040, 64)), make_ops(2), BestOf(1040)
    x = activations(3, 64)
    x[1, 40] = wrong
    found = best(ops, x, split_of(weight), of)
    assert not np.isfinite(found.logits[1])
    assert found.ids[::2] == best_of(ops.linear(x, weight), of).ids[::2]
    data = panels_of((1040, 64)).in_rows().data.copy()
    data[777, 34:36] = np.array([wrong], np.float16).view(np.uint8)
    damaged = Weight(FORMATS["q8_0"], (1040, 64), data).interleave()
    if wrong > -np.inf:
        expected = best_of(ops.linear(x[:1], damaged), of)
        assert_same(best(ops, x[:1], split_of(damaged), of), expected)


def test_where_nothing_is_left_there_is_no_best(make_ops: MakeOps) -> None:
    split = split_of(panels_of((1040, 64)))
    found = best(make_ops(), activations(2, 64), split, BestOf(3, (0, 1, 2)))
    assert found.ids == [0, 0]
    assert found.logits == [-np.inf, -np.inf]


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
    ops = make_ops()
    is_split = ops.prepare_head(weight_from_floats(FORMATS["q8_0"], rows)).split
    assert is_split == (ops.isa != "portable")  # whose products would cost more than they spare


def test_the_best_of_some_tokens(make_ops: MakeOps) -> None:
    ops, weight, x = make_ops(2), panels_of((1040, 64)), activations(9, 64)
    head, expected = head_of(ops, split_of(weight)), best_of(ops.linear(x, weight), BestOf(1040))
    rows = np.array([1, 2, 7], np.int32)
    for want, chosen, places in ((LAST, None, [8]), (ALL, None, range(9)), (SOME_ROWS, rows, rows)):
        found = found_by(head, x, BestOf(1040), want, chosen)
        assert found.ids == [expected.ids[place] for place in places]
        assert found.logits == [expected.logits[place] for place in places]


def test_more_logits_than_there_are_are_all_of_them(make_ops: MakeOps) -> None:
    split, x = split_of(panels_of((1040, 64))), activations(2, 64)
    assert_same(best(make_ops(), x, split, BestOf(5000)), best(make_ops(), x, split, BestOf(1040)))


def test_what_does_not_fit_is_refused(make_ops: MakeOps) -> None:
    ops, weight, x = make_ops(), panels_of((1040, 64)), activations(2, 64)
    head, room = head_of(ops, split_of(weight)), np.empty((2, 1040), np.float32)
    for limit, without, why in ((0, (), "no logits"), (1040, (3, 1), "in order"), (1040, (-1,), "negative")):
        for out in (None, room):
            with pytest.raises(ValueError, match=why):
                found_by(head, x, BestOf(limit, without), out=out)
    of = BestOf(1040)
    with pytest.raises(ValueError, match="another width"):
        found_by(head, x[:, :32].copy(), of)
    with pytest.raises(ValueError, match="one of logits"):
        found_by(head, x, of, want=0)
    with pytest.raises(ValueError, match="out is missing"):
        head.run(None, x, 0, 0, ALL, None, None, None)
    with pytest.raises(ValueError, match="below a limit"):
        head.run(None, x, 0, 0, ALL, None, room, (1040,))  # type: ignore[arg-type]
    bare = _native.Program(ops.isa, 1, False)
    x_alone = bare.input(1040)
    bare.mark(x_alone)
    bare.finish(x_alone)  # nothing follows the layers
    with pytest.raises(ValueError, match="split head"):
        found_by(bare, room, of)
    for wrong in (room[:0], room[:, :1024].copy()):
        with pytest.raises(ValueError, match="out has the wrong shape"):
            found_by(head, x, of, out=wrong)
    for whole in (head_of(ops, weight), head_of(make_ops(exact=True), split_of(weight))):
        with pytest.raises(ValueError, match="split head"):
            found_by(whole, x, of)


@pytest.mark.parametrize("count", [1, 2, 5, 9, 33])
def test_logits_are_compared_in_as_many_rows_at_a_time_as_there_is_room_for(
    make_ops: MakeOps, count: int
) -> None:
    ops, weight, x = make_ops(), panels_of((1040, 64)), activations(count, 64)
    head, of = head_of(ops, split_of(weight)), BestOf(1037, (5, 700))
    logits = np.empty((count, 1040), np.float32)
    head.run(None, x, 0, 0, ALL, None, logits, None)
    logits[:, [5, 700]] = -np.inf
    for room in (1, 2, 4, count):
        found = found_by(head, x, of, out=np.empty((room, 1040), np.float32))
        assert found.ids == logits[:, :1037].argmax(axis=1).tolist()
        assert found.logits == logits[:, :1037].max(axis=1).tolist()
