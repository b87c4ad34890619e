"""Routing and experts against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion.formats.block import Floats
from apportion.formats.blocks import FORMATS
from apportion.kernels import ExpertWeights, NativeOps, ReferenceOps, Routing, Weight

MakeOps = Callable[..., NativeOps]
MakeWeight = Callable[..., Weight]
REFERENCE = ReferenceOps()
few = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@few
@given(
    tokens=st.integers(1, 40),
    groups=st.sampled_from([1, 2, 4]),
    size=st.integers(2, 16),
    top_k=st.integers(1, 2),
    normalize=st.booleans(),
    biased=st.booleans(),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("score", ["softmax", "sigmoid", "softmax_topk"])
@pytest.mark.parametrize("group_score", ["max", "top2"])
def test_route_is_the_references(
    make_ops: MakeOps,
    score: str,
    group_score: str,
    tokens: int,
    groups: int,
    size: int,
    top_k: int,
    normalize: bool,
    biased: bool,
    ties: bool,
    seed: int,
) -> None:
    logits = random(seed, tokens, groups * size)
    if ties:
        logits = np.round(logits)
    bias = np.round(random(seed + 1, groups * size)) if biased else None
    routing = Routing(top_k, score, normalize, 1.5, groups, max(1, groups // 2), group_score)  # type: ignore[arg-type]
    ids, weights = make_ops(threads=2).route(logits, routing, bias)
    expected_ids, expected_weights = REFERENCE.route(logits, routing, bias)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)


def test_route_gives_distinct_experts_even_for_logits_that_are_not_numbers(make_ops: MakeOps) -> None:
    ids, _ = make_ops().route(np.full((2, 8), np.nan, np.float32), Routing(4))
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3]] * 2)


def layer(
    make_weight: MakeWeight, names: tuple[str, str, str], E: int, F: int, H: int, biased: bool
) -> ExpertWeights:
    gate, up, down = (FORMATS[name] for name in names)
    return ExpertWeights(
        make_weight(gate, (E, F, H), 1),
        make_weight(up, (E, F, H), 2),
        make_weight(down, (E, H, F), 3),
        *((random(4, E, F), random(5, E, F), random(6, E, H)) if biased else (None, None, None)),
    )


@few
@given(
    tokens=st.integers(1, 20),
    experts=st.integers(1, 6),
    per_token=st.integers(1, 4),
    seed=st.integers(0, 999),
)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "swiglu_oai"])
@pytest.mark.parametrize(
    "names", [("q4_k", "q4_k", "q6_k"), ("q5_0", "q8_0", "f32"), ("mxfp4", "mxfp4", "mxfp4")]
)
def test_experts_are_the_references_with_float_activations(
    make_ops: MakeOps,
    make_weight: MakeWeight,
    names: tuple[str, str, str],
    kind: str,
    tokens: int,
    experts: int,
    per_token: int,
    seed: int,
) -> None:
    weights = layer(make_weight, names, experts, 256, 256, biased=seed % 2 == 0)
    x = random(seed, tokens, 256) / 4
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, experts, (tokens, per_token)).astype(np.int32)
    shares = rng.random((tokens, per_token)).astype(np.float32)
    theirs = REFERENCE.experts(x, ids, shares, weights, kind)  # type: ignore[arg-type]
    ours = make_ops(threads=2, exact=True).experts(x, ids, shares, weights, kind)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_experts_do_not_depend_on_threads_or_company(make_ops: MakeOps, make_weight: MakeWeight) -> None:
    weights = layer(make_weight, ("q4_0", "q4_1", "q8_0"), 5, 96, 64, biased=True)
    x, shares = random(30, 40, 64), np.abs(random(31, 40, 2))
    ids = np.random.default_rng(32).integers(0, 5, (40, 2)).astype(np.int32)
    together = make_ops(threads=2).experts(x, ids, shares, weights, "silu")
    np.testing.assert_array_equal(together, make_ops(threads=1).experts(x, ids, shares, weights, "silu"))
    for token in (0, 39):
        one = slice(token, token + 1)
        alone = make_ops(threads=2).experts(x[one], ids[one], shares[one], weights, "silu")
        np.testing.assert_array_equal(together[one], alone)
    theirs = REFERENCE.experts(x, ids, shares, weights, "silu")
    assert np.abs(together - theirs).max() < 0.03 * np.abs(theirs).max()
