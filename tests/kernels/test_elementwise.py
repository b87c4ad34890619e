"""Norm, rotation, gates and the cache's writing against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion.formats.block import Floats
from apportion.kernels import NativeOps, ReferenceOps

MakeOps = Callable[..., NativeOps]
REFERENCE = ReferenceOps()
few = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@few
@given(tokens=st.integers(1, 40), heads=st.integers(1, 4), width=st.integers(1, 130), seed=st.integers(0, 99))
def test_rms_norm(make_ops: MakeOps, tokens: int, heads: int, width: int, seed: int) -> None:
    x, weight = random(seed, tokens, heads, width), random(seed + 1, width)
    ours = make_ops(threads=2).rms_norm(x, weight, 1e-6)
    np.testing.assert_allclose(ours, REFERENCE.rms_norm(x, weight, 1e-6), rtol=1e-5, atol=1e-6)


@few
@given(tokens=st.integers(1, 40), width=st.integers(1, 1000), seed=st.integers(0, 99))
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "swiglu_oai"])
def test_gate(make_ops: MakeOps, kind: str, tokens: int, width: int, seed: int) -> None:
    gate, up = random(seed, tokens, width) * 10, random(seed + 1, tokens, width) * 5
    ours = make_ops(threads=2).gate(gate, up, kind)
    theirs = REFERENCE.gate(gate, up, kind)  # type: ignore[arg-type]
    assert np.all(np.abs(ours - theirs) <= 1e-5 * np.abs(theirs) + 1e-6 * np.abs(gate * up))


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "swiglu_oai"])
def test_gate_bears_the_largest_numbers(make_ops: MakeOps, kind: str) -> None:
    gate = np.array([[-1e30, -200, -90, -1e-30, 0, 1e-30, 90, 200, 1e30]], np.float32)
    ours = make_ops().gate(gate, np.ones_like(gate), kind)
    with np.errstate(over="ignore"):
        theirs = REFERENCE.gate(gate, np.ones_like(gate), kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@few
@given(
    tokens=st.integers(1, 40),
    heads=st.integers(1, 5),
    pairs=st.integers(1, 40),
    rest=st.integers(0, 9),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_rope_also_turns_parts_of_strided_views(
    make_ops: MakeOps, style: str, tokens: int, heads: int, pairs: int, rest: int, seed: int
) -> None:
    whole = random(seed, tokens, heads, 5 + 2 * pairs + rest)
    view, expected = whole[:, :, 5:], whole[:, :, 5:].copy()
    before = whole[:, :, :5].copy()
    positions = np.random.default_rng(seed).integers(0, 100_000, tokens).astype(np.int32)
    inv_freq = (10000.0 ** (-np.arange(pairs) / pairs)).astype(np.float32)
    make_ops(threads=2).rope(view, positions, inv_freq, style, 1.25)
    REFERENCE.rope(expected, positions, inv_freq, style, 1.25)  # type: ignore[arg-type]
    np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(whole[:, :, :5], before)


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "swiglu_oai"])
def test_gate_is_within_a_few_roundings_of_the_truth(make_ops: MakeOps, kind: str) -> None:
    gate = np.linspace(-8, 80, 50_001, dtype=np.float32)[None]
    g = np.minimum(gate.astype(np.float64), 7 if kind == "swiglu_oai" else np.inf)
    factor = {"silu": g, "gelu_tanh": np.sqrt(8 / np.pi) * (g + 0.044715 * g**3), "swiglu_oai": 1.702 * g}[
        kind
    ]
    truth = g / (1 + np.exp(-factor)) * (2 if kind == "swiglu_oai" else 1)
    ours = make_ops().gate(gate, np.ones_like(gate), kind)  # type: ignore[arg-type]
    # The exponent's own rounding grows with it, and so does what it does to the result.
    tolerance = (3 + 2 * np.abs(factor)) * 2.0**-23
    assert np.all(np.abs(ours - truth) <= tolerance * np.abs(truth))


def test_rope_turns_by_the_right_angle_however_far_the_position(make_ops: MakeOps) -> None:
    positions = np.array([0, 1, 99_999, 1_000_003, 16_777_217, 2**31 - 1], np.int32)
    inv_freq = np.array([1.0, 0.7, 0.01], np.float32)
    x = np.tile(np.array([1, 1, 1, 0, 0, 0], np.float32), (len(positions), 1, 1))
    make_ops().rope(x, positions, inv_freq, "half")
    angle = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    np.testing.assert_allclose(x[:, 0, :3], np.cos(angle), rtol=0, atol=1e-7)
    np.testing.assert_allclose(x[:, 0, 3:], np.sin(angle), rtol=0, atol=1e-7)
