"""Replay counts what a cache would have had, and agrees with what others found on real traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.policies import EXPERT_CACHES
from apportion.simulate.replay import Ids, lru_curve, replay, stack_distances


def trace(*steps: list[int]) -> Ids:
    """One layer."""
    return np.array(steps)[:, None, :]


def random_trace(seed: int, tokens: int, layers: int, num_experts: int, top_k: int) -> Ids:
    draws = np.random.default_rng(seed).random((tokens, layers, num_experts))
    return np.argsort(draws, axis=-1)[..., :top_k]


def test_a_short_trace_counted_by_hand() -> None:
    # slots:          {0,1}   {0,1,2}  hit 0    3 for 2  hits     2 for 0
    steps = trace([0, 1], [2, 1], [0, 1], [3, 1], [1, 3], [2, 3])
    found = replay(steps, 4, 3, EXPERT_CACHES.get("lru"))
    assert found.hits == (0 + 1 + 2 + 1 + 2 + 1,)
    assert found.uses == 12
    assert found.hit_rate == 7 / 12


def test_a_step_is_looked_up_before_anything_is_given_up() -> None:
    # Asked one after the other, 2 would push out 0 before 0 is looked up.
    assert replay(trace([0, 1], [2, 0]), 3, 2, EXPERT_CACHES.get("lru")).hits == (1,)


def test_skipped_tokens_warm_the_cache_and_are_not_counted() -> None:
    steps = trace([0, 1], [0, 1], [0, 1])
    found = replay(steps, 4, 2, EXPERT_CACHES.get("lru"), skip=1)
    assert (found.hits, found.uses, found.hit_rate) == ((4,), 4, 1.0)
    assert replay(steps, 4, 2, EXPERT_CACHES.get("lru"), skip=9).hit_rate == 0


def test_layers_have_caches_of_their_own() -> None:
    both = random_trace(1, 50, 2, 8, 2)
    hits = [replay(both[:, [layer]], 8, 4, EXPERT_CACHES.get("lru")).hits[0] for layer in (0, 1)]
    assert replay(both, 8, 4, EXPERT_CACHES.get("lru")).hits == tuple(hits)


@pytest.mark.parametrize("name", list(EXPERT_CACHES))
def test_with_a_slot_for_every_expert_only_first_uses_miss(name: str) -> None:
    steps = random_trace(2, 100, 1, 16, 4)
    assert replay(steps, 16, 16, EXPERT_CACHES.get(name)).hits == (100 * 4 - 16,)


def test_fewer_slots_than_a_step_uses_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 slots cannot serve a step.*uses 4 experts.*choose 4"):
        replay(random_trace(0, 2, 1, 8, 4), 8, 3, EXPERT_CACHES.get("lru"))


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(1, 4), st.integers(0, 10))
def test_the_curve_in_one_pass_is_that_of_lru_at_every_number_of_slots(
    seed: int, tokens: int, top_k: int, skip: int
) -> None:
    steps = random_trace(seed, tokens, 2, 8, top_k)
    curve = lru_curve(steps, 8, skip)
    assert list(curve) == list(range(top_k, 9))
    for slots, rate in curve.items():
        assert rate == pytest.approx(replay(steps, 8, slots, EXPERT_CACHES.get("lru"), skip).hit_rate)


def test_distances_count_what_was_used_since() -> None:
    assert stack_distances([[0, 1], [1, 2], [0, 1]], 4) == [[4, 4], [1, 4], [2, 0]]


def hit_rates(name: str, steps: Ids, num_experts: int, slots: list[int]) -> list[float]:
    return [round(replay(steps, num_experts, n, EXPERT_CACHES.get(name)).hit_rate, 3) for n in slots]


def test_qwen3_30b_has_the_hit_rates_that_were_found_elsewhere(shared_data: Path) -> None:
    steps = np.load(shared_data / "moe_routes_full" / "qwen3_30b" / "no_robots_00535_decode.npz")["experts"]
    slots = [16, 32, 48, 64, 96]
    curve = lru_curve(steps, 128)
    assert [round(curve[n], 3) for n in slots] == [0.576, 0.744, 0.825, 0.854, 0.862]
    assert hit_rates("belady", steps, 128, slots) == [0.693, 0.824, 0.857, 0.861, 0.862]


def test_mixtral_has_the_hit_rates_that_were_found_elsewhere(shared_data: Path) -> None:
    stored = np.load(shared_data / "moe_routes_full" / "mixtral8x7b" / "mixtral8x7b_instruct_routes.npz")
    steps = np.concatenate([stored[name] for name in stored if name.endswith("_experts")])
    layers = [steps[:, layer] for layer in range(32)]
    whole = [layer[(layer >= 0).all(axis=-1)][:, None] for layer in layers]  # a few were not recorded
    expected = {
        "lru": (0.497, 0.611, 0.713),
        "lfu": (0.512, 0.628, 0.730),
        "belady": (0.604, 0.739, 0.829),
    }
    for name, rates in expected.items():
        for slots, rate in zip((3, 4, 5), rates, strict=True):
            policy = EXPERT_CACHES.get(name)
            found = np.mean([replay(layer, 8, slots, policy).hit_rate for layer in whole])
            assert found == pytest.approx(rate, abs=0.01), (name, slots)
