"""Generated routes have the curve that was asked for."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.policies import EXPERT_CACHES
from apportion.simulate.generate import LruCurve, generate_routes
from apportion.simulate.replay import Ids, lru_curve, replay

# Shapes of OLMoE, Mixtral and Qwen3 30B A3B, the last with the curve that was published for its big sister.
CASES = [
    (LruCurve(((0.25, 0.5), (0.5, 0.8), (0.75, 0.93))), 64, 8),
    (LruCurve(((0.5, 0.61), (0.75, 0.81))), 8, 2),
    (LruCurve(((0.08, 0.466), (0.16, 0.666), (0.25, 0.8), (0.36, 0.886), (0.55, 0.961))), 128, 8),
    (LruCurve(((0.3, 0.05), (0.9, 0.85))), 32, 4),  # worse than uniform
    (LruCurve(), 64, 8),
]
cases = pytest.mark.parametrize(("curve", "num_experts", "top_k"), CASES)


def routes(curve: LruCurve, layers: int, experts: int, top_k: int, tokens: int, seed: int = 0) -> Ids:
    return np.array(list(islice(generate_routes(curve, layers, experts, top_k, seed), tokens)))


@cases
def test_an_lru_cache_has_the_asked_hit_rates(curve: LruCurve, num_experts: int, top_k: int) -> None:
    made = routes(curve, 2, num_experts, top_k, 2000)
    for share, rate in curve.points:
        slots = round(share * num_experts)
        found = replay(made, num_experts, slots, EXPERT_CACHES.get("lru")).hit_rate
        assert found == pytest.approx(rate, abs=0.02), slots


@settings(max_examples=25)
@given(st.data())
def test_any_curve_that_is_taken_is_met(data: st.DataObject) -> None:
    num_experts = data.draw(st.integers(4, 40), "experts")
    top_k = data.draw(st.integers(1, num_experts // 2), "top_k")
    slots = data.draw(st.integers(top_k, num_experts - 1), "slots")
    rate = data.draw(st.floats(0, 1), "rate")
    curve = LruCurve(((slots / num_experts, rate),))
    try:
        made = routes(curve, 1, num_experts, top_k, 600)
    except UsageError as error:
        assert (1 - rate) * top_k > num_experts - slots - 1e-6, error
        return
    # Without the warm-up, in which experts are met for the first time.
    assert lru_curve(made, num_experts, skip=100)[slots] == pytest.approx(rate, abs=0.12)


@cases
def test_experts_of_a_step_differ(curve: LruCurve, num_experts: int, top_k: int) -> None:
    made = np.sort(routes(curve, 3, num_experts, top_k, 200), axis=-1)
    assert made.shape == (200, 3, top_k)
    assert (made[..., 1:] > made[..., :-1]).all()
    assert made.min() >= 0
    assert made.max() < num_experts


def test_without_points_routes_are_uniform() -> None:
    made = routes(LruCurve(), 4, 16, 4, 4000)
    counts = np.bincount(made.ravel(), minlength=16)
    assert abs(counts / counts.mean() - 1).max() < 0.05
    assert lru_curve(made, 16)[8] == pytest.approx(0.5, abs=0.01)


def test_every_expert_may_be_used_in_each_step() -> None:
    assert np.sort(routes(LruCurve(), 2, 4, 4, 10)).tolist() == [[[0, 1, 2, 3]] * 2] * 10


def test_a_seed_gives_the_same_routes_and_another_seed_others() -> None:
    first, again, other = (routes(CASES[0][0], 2, 64, 8, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first[:, 0] != first[:, 1]).any()  # and layers differ


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.25", "not a curve"),
        ("0.25:0.5:1", "not a curve"),
        ("a:b", "not a curve"),
        ("", "not a curve"),
        ("0.5:0.8,0.25:0.5", "must rise"),
        ("0.25:0.8,0.5:0.5", "must rise"),
        ("1.0:0.98", "leave the point of share 1 out"),
        ("0.5:1.2", "must rise"),
        ("0.5:-1", "must rise"),
        ("nan:0.5", "must rise"),
        ("0.5:nan", "must rise"),
    ],
)
def test_what_is_no_curve_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        LruCurve.parse(text)


@pytest.mark.parametrize(
    ("text", "num_experts", "top_k", "says"),
    [
        ("0.1:0.5", 64, 8, "a slot for each expert of a step"),
        ("0.5:0.1,0.6:0.9", 20, 8, "slots 11 to 12 cannot have so many hits"),
        ("0.9:0.1", 64, 8, "slots 59 to 64 cannot have so many hits"),
        ("0.5:0.5,0.51:0.6", 8, 2, "same number of slots"),
        ("0.5:0.5", 4, 5, "a step uses 1 expert to all"),
        ("0.99:0.5", 8, 2, "same number of slots"),
    ],
)
def test_a_curve_that_no_routes_have_is_refused(text: str, num_experts: int, top_k: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        generate_routes(LruCurve.parse(text), 1, num_experts, top_k)
