"""Products of every format against the reference, within bounds that follow from the arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion import _native
from apportion.formats.block import BlockFormat, Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import NativeOps, ReferenceOps, Weight, weight_from_floats

MakeOps = Callable[..., NativeOps]
MakeWeight = Callable[..., Weight]
REFERENCE = ReferenceOps()
few = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def activations(seed: int, *shape: int) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp(rng.standard_normal(shape))).astype(np.float32)


def rounding_bound(x: Floats, weight: Floats) -> Floats:
    """What sums in float32 may be off by: a hundred thousandth of the products' magnitudes."""
    return 1e-5 * np.abs(x) @ np.abs(weight).T + 1e-6


WIDE = ("q8_0", "iq4_nl", "iq4_xs")  # formats whose products take 13-bit activations
HALVED = ("q2_k", "q3_k", "q6_k")  # formats that bound what the codes of 16 activations add up to


def half_steps(x: Floats, block_format: BlockFormat, *, apart: bool = False) -> Floats:
    """What rounding to integers may move each activation by; `apart`: the largest of a token not at all."""
    moved = np.abs(x)
    largest = moved.argmax(axis=1)[:, None]
    if apart:
        np.put_along_axis(moved, largest, 0, axis=1)
    groups = moved.reshape(len(x), -1, 32).max(axis=-1) / (4095 if block_format.name in WIDE else 127)
    if block_format.name in HALVED:
        groups = np.maximum(groups, moved.reshape(len(x), -1, 2, 16).mean(axis=-1).max(axis=-1) / 63)
    steps = np.repeat(groups / 2, 32, axis=-1) * 1.001
    if apart:
        np.put_along_axis(steps, largest, 0, axis=1)
    return steps


def quantization_bound(
    x: Floats, weight: Floats, block_format: BlockFormat, *, apart: bool = False
) -> Floats:
    """What integer activations may add to sums."""
    return half_steps(x, block_format, apart=apart) @ np.abs(weight).T


def columns(block_format: BlockFormat, blocks: int) -> int:
    """A row length: odd numbers of blocks, past one panel's worth of groups; any number for plain floats."""
    if block_format.block_size == 256:
        return 256 * (blocks % 6 + 1)
    return 32 * blocks if block_format.block_size == 32 else 7 * blocks


@few
@given(
    tokens=st.integers(1, 40), rows=st.integers(1, 70), blocks=st.integers(1, 45), seed=st.integers(0, 999)
)
@pytest.mark.parametrize("exact", [True, False])
def test_linear_is_the_references_within_the_arithmetics_bound(
    make_ops: MakeOps,
    make_weight: MakeWeight,
    native_format: BlockFormat,
    exact: bool,
    tokens: int,
    rows: int,
    blocks: int,
    seed: int,
) -> None:
    cols = columns(native_format, blocks)
    weight, x = make_weight(native_format, (rows, cols), seed), activations(seed, tokens, cols)
    bias = activations(seed + 1, rows)
    numbers = weight.dequantize()
    bound = rounding_bound(x, numbers)
    if not exact and native_format.block_size > 1:
        # Minimums cancel against codes, so that rounding is relative to twice the numbers' range.
        bound = bound * 20 + quantization_bound(x, numbers, native_format)
    ours = make_ops(exact=exact).linear(x, weight, bias)
    assert np.all(np.abs(ours - REFERENCE.linear(x, weight, bias)) <= bound)


@few
@given(tokens=st.integers(2, 11), rows=st.integers(1, 40), seed=st.integers(0, 999))
def test_a_token_alone_gives_the_same_bits_as_among_others_on_any_number_of_threads(
    make_ops: MakeOps, make_weight: MakeWeight, native_format: BlockFormat, tokens: int, rows: int, seed: int
) -> None:
    weight, x = make_weight(native_format, (rows, 1536), seed), activations(seed, tokens, 1536)
    together = make_ops(threads=2).linear(x, weight)
    np.testing.assert_array_equal(together, make_ops(threads=1).linear(x, weight))
    alone = np.concatenate([make_ops().linear(x[t : t + 1], weight) for t in range(tokens)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", HALVED)
def test_sums_of_a_half_never_leave_their_words(make_ops: MakeOps, name: str) -> None:
    # The lowest codes times activations that are all as large as they may be, with signs alike.
    rng = np.random.default_rng(2)
    signs = rng.choice(np.float32([-1, 1]), (16, 512))
    weight = weight_from_floats(FORMATS[name], signs).interleave()
    x = np.concatenate([signs, -signs, signs * rng.uniform(0.9, 1, signs.shape).astype(np.float32)])
    numbers = weight.dequantize()
    bound = 20 * rounding_bound(x, numbers) + quantization_bound(x, numbers, FORMATS[name])
    for tokens in (x, x[:5], x[:1]):
        ours = make_ops().linear(tokens, weight)
        assert np.all(np.abs(ours - REFERENCE.linear(tokens, weight)) <= bound[: len(tokens)])


def test_many_tokens_pass_in_several_parts(make_ops: MakeOps, make_weight: MakeWeight) -> None:
    weight, x = make_weight(FORMATS["q4_0"], (33, 64), 5), activations(5, 300, 64)
    ours = make_ops(threads=2).linear(x, weight)
    np.testing.assert_array_equal(ours[290:], make_ops().linear(x[290:], weight))


@few
@given(tokens=st.integers(1, 9), heads=st.integers(1, 5), rows=st.integers(1, 40), seed=st.integers(0, 999))
@pytest.mark.parametrize("name", ["f32", "bf16", "q8_0", "q6_k"])
def test_linear_heads_gives_each_head_its_own_matrix(
    make_ops: MakeOps, make_weight: MakeWeight, name: str, tokens: int, heads: int, rows: int, seed: int
) -> None:
    weight = make_weight(FORMATS[name], (heads, rows, 256), seed)
    x = activations(seed, tokens, heads, 256)
    ops = make_ops(threads=2)
    ours = ops.linear_heads(x, weight)
    for head in range(heads):
        np.testing.assert_array_equal(
            ours[:, head], ops.linear(np.ascontiguousarray(x[:, head]), weight[head])
        )


def test_embed_and_dequantize_decode_the_very_numbers(
    make_ops: MakeOps, make_weight: MakeWeight, native_format: BlockFormat
) -> None:
    table = make_weight(native_format, (48, 512), 3)
    numbers = table.dequantize()
    ids = np.array([47, 0, 3, 3, 31, 24], np.int32)
    np.testing.assert_array_equal(make_ops(threads=2).embed(ids, table), numbers[ids])
    out = np.empty(numbers.shape, np.float32)
    _native.dequantize(table.storage, table.data, out)
    np.testing.assert_array_equal(out, numbers)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("name", "one"), [("q4_0", 1), ("q8_0", 127)])
def test_rounding_moves_an_activation_by_half_a_step_at_most(
    make_ops: MakeOps, name: str, one: int, apart: bool
) -> None:
    identity = weight_from_floats(FORMATS[name], one * np.eye(64, dtype=np.float32)).interleave()
    np.testing.assert_array_equal(identity.dequantize(), one * np.eye(64))
    x = activations(9, 50, 64)
    moved = np.abs(make_ops().linear(x, identity, outliers_apart=apart) / one - x)
    largest = np.repeat(np.abs(x).reshape(50, 2, 32).max(axis=-1), 32, axis=-1)
    steps = half_steps(x, FORMATS[name], apart=apart and name not in WIDE)
    assert (moved <= steps + 1e-6 * largest).all()


def test_an_outlier_that_is_kept_apart_does_not_coarsen_its_group_wherever_it_lies(
    make_ops: MakeOps, make_weight: MakeWeight, native_format: BlockFormat
) -> None:
    weight, x = make_weight(native_format, (16, 512), 10), activations(10, 512, 512)
    x += 1000 * np.eye(512, dtype=np.float32)
    numbers = weight.dequantize()
    bound = 20 * rounding_bound(x, numbers)
    if native_format.block_size > 1:
        bound += quantization_bound(x, numbers, native_format, apart=native_format.name not in WIDE)
    ours = make_ops().linear(x, weight, outliers_apart=True)
    assert np.all(np.abs(ours - REFERENCE.linear(x, weight)) <= bound)


@pytest.mark.parametrize("name", ["q8_0", "q4_1"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_not_hidden_by_rounding(
    make_ops: MakeOps, make_weight: MakeWeight, name: str, bad: float, apart: bool
) -> None:
    weight, x = make_weight(FORMATS[name], (16, 64), 7), activations(7, 2, 64)
    x[0, 40] = bad
    ours = make_ops().linear(x, weight, outliers_apart=apart)
    assert not np.isfinite(ours[0]).any()
    assert np.isfinite(ours[1]).all()


def test_zeros_and_the_tiniest_numbers_give_zero(make_ops: MakeOps, make_weight: MakeWeight) -> None:
    x = np.zeros((2, 64), np.float32)
    x[1] = 1e-40
    np.testing.assert_array_equal(make_ops().linear(x, make_weight(FORMATS["q4_1"], (16, 64), 8)), 0)
