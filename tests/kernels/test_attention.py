"""Attention against the reference over heads, sizes, windows, caps, sinks, views and long contexts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apportion.formats.block import Floats
from apportion.kernels import NativeOps, ReferenceOps

MakeOps = Callable[..., NativeOps]
REFERENCE = ReferenceOps()


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def caches(
    seed: int, groups: int, capacity: int, dk: int, dv: int, dtype: type
) -> tuple[NDArray[Any], NDArray[Any]]:
    return random(seed, groups, capacity, dk).astype(dtype), random(seed + 1, groups, capacity, dv).astype(
        dtype
    )


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    tokens=st.integers(1, 40),
    groups=st.integers(1, 3),
    per_group=st.sampled_from([1, 2, 3, 5, 40]),
    key_size=st.integers(1, 40),
    value_size=st.integers(1, 40),
    start=st.integers(0, 700),
    window=st.sampled_from([0, 1, 7, 100, 600]),
    softcap=st.sampled_from([0.0, 3.0]),
    sinks=st.booleans(),
    half=st.booleans(),
    seed=st.integers(0, 999),
)
def test_attend_is_the_references(
    make_ops: MakeOps,
    tokens: int,
    groups: int,
    per_group: int,
    key_size: int,
    value_size: int,
    start: int,
    window: int,
    softcap: float,
    sinks: bool,
    half: bool,
    seed: int,
) -> None:
    heads = groups * per_group
    k, v = caches(seed, groups, start + tokens + 3, key_size, value_size, np.float16 if half else np.float32)
    k[:, start + tokens :] = v[:, start + tokens :] = np.nan  # nobody may look there
    q = random(seed + 2, tokens, heads, key_size)
    sink = random(seed + 3, heads) if sinks else None
    arguments = (q, k, v, start, key_size**-0.5, window, softcap, sink)
    theirs = REFERENCE.attend(*arguments)
    one, two = make_ops(threads=1).attend(*arguments), make_ops(threads=2).attend(*arguments)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("window", [0, 300])
@pytest.mark.parametrize(("heads", "size"), [(2, 64), (4, 64), (6, 64), (8, 256), (10, 40), (6, 17)])
def test_a_token_alone_gives_the_same_bits_as_among_others(
    make_ops: MakeOps, heads: int, size: int, window: int
) -> None:
    k, v = caches(4, 2, 1200, size, size, np.float16)
    q = random(6, 50, heads, size)
    together = make_ops(threads=2).attend(q, k, v, 1100, 0.125, window)
    for token in (0, 17, 49):
        alone = make_ops(threads=2).attend(q[token : token + 1], k, v, 1100 + token, 0.125, window)
        np.testing.assert_array_equal(together[token : token + 1], alone)


def test_latent_attention_reads_values_out_of_the_keys(make_ops: MakeOps) -> None:
    latent = random(7, 1, 90, 576).astype(np.float16)
    q = random(8, 3, 20, 576)
    arguments = (q, latent, latent[:, :, :512], 80, 576**-0.5)
    np.testing.assert_allclose(
        make_ops(threads=2).attend(*arguments), REFERENCE.attend(*arguments), rtol=2e-5, atol=2e-5
    )


def test_caches_may_be_views_into_something_larger(make_ops: MakeOps) -> None:
    both = random(9, 30, 2, 2, 24).astype(np.float16)  # position, key or value, head, size
    k, v = both[:, 0].transpose(1, 0, 2), both[:, 1].transpose(1, 0, 2)
    q = random(10, 5, 4, 24)
    np.testing.assert_allclose(
        make_ops().attend(q, k, v, 20, 0.2), REFERENCE.attend(q, k, v, 20, 0.2), rtol=2e-5, atol=2e-5
    )


def test_a_later_token_that_is_not_a_number_does_not_reach_an_earlier_one(make_ops: MakeOps) -> None:
    k, v = caches(11, 1, 9, 16, 16, np.float32)
    k[0, 8] = np.nan
    out = make_ops().attend(random(12, 9, 1, 16), k, v, 0, 0.25)
    assert np.isfinite(out[:8]).all()
    assert np.isnan(out[8]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_later_value_that_is_not_a_number_does_not_reach_an_earlier_token(
    make_ops: MakeOps, bad: float
) -> None:
    k, v = caches(13, 1, 200, 16, 16, np.float16)
    v[0, 190:] = bad
    out = make_ops().attend(random(14, 60, 2, 16), k, v, 140, 0.25)
    assert np.isfinite(out[:50]).all()


def test_scores_far_apart_neither_overflow_nor_vanish(make_ops: MakeOps) -> None:
    k, v = caches(15, 1, 700, 8, 8, np.float32)
    k *= np.float32(300)
    q = random(16, 3, 2, 8) * np.float32(300)
    arguments = (q, k, v, 690, 1.0)
    np.testing.assert_allclose(
        make_ops(threads=2).attend(*arguments), REFERENCE.attend(*arguments), rtol=2e-2, atol=2e-2
    )
