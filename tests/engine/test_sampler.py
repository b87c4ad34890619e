"""Sampling: each filter against its definition in plain Python, the draws against the exact distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from apportion.core.errors import NotFinite
from apportion.engine import sampler
from apportion.engine.params import SamplingParams
from apportion.engine.sampler import Candidates, Sampler, draw, logprobs

NONE = np.array([], dtype=np.int32)
OPEN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

rows = hnp.arrays(np.float32, st.integers(1, 700), elements=st.floats(-30, 30, width=32))


def candidates(logits: np.ndarray) -> Candidates:
    return Candidates(np.arange(len(logits), dtype=np.int32), logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def sampled(logits: np.ndarray, count: int, **params: object) -> np.ndarray:
    one = Sampler(SamplingParams(**{**OPEN, "seed": 7, **params}))
    return np.array([one.choose(logits, NONE, NONE) for _ in range(count)])


def chi_square_passes(draws: np.ndarray, expected: np.ndarray) -> bool:
    """Pearson's test at about five sigma (Wilson and Hilferty's normal approximation)."""
    counts = np.bincount(draws, minlength=len(expected))
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    wanted = expected[kept] * len(draws)
    freedom = int(kept.sum()) - 1
    statistic = float(((counts[kept] - wanted) ** 2 / wanted).sum())
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return z < 5


LOGITS = np.log(np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], dtype=np.float32))
CLOSED_FORMS = [
    ({}, [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]),
    ({"temperature": 0.5}, [0.16, 0.0625, 0.0225, 0.01, 0.0036, 0.0016]),
    ({"top_k": 2}, [0.4, 0.25, 0, 0, 0, 0]),
    ({"top_p": 0.7}, [0.4, 0.25, 0.15, 0, 0, 0]),
    ({"min_p": 0.2}, [0.4, 0.25, 0.15, 0.1, 0, 0]),
    ({"top_k": 4, "top_p": 0.7}, [0.4, 0.25, 0, 0, 0, 0]),  # 0.65 of 0.9 reaches 0.7 after top_k
    ({"top_p": 0.7, "temperature": 2.0}, [0.4**0.5, 0.5, 0.15**0.5, 0, 0, 0]),
    ({"logit_bias": {0: -math.inf, 5: math.log(2)}}, [0, 0.25, 0.15, 0.1, 0.06, 0.08]),
]


@pytest.mark.parametrize(("params", "weights"), CLOSED_FORMS)
def test_draws_follow_the_exact_distribution(params: dict, weights: list[float]) -> None:
    expected = np.array(weights) / sum(weights)
    assert chi_square_passes(sampled(LOGITS, 6000, **params), expected)


def test_the_chi_square_test_would_notice_a_wrong_distribution() -> None:
    wrong = np.array([0.37, 0.28, 0.15, 0.1, 0.06, 0.04])
    assert not chi_square_passes(sampled(LOGITS, 6000), wrong)


def test_draws_over_a_large_vocabulary_follow_the_distribution() -> None:
    logits = np.random.default_rng(3).standard_normal(3000).astype(np.float32)
    draws = sampled(logits, 6000)
    blocks = softmax(logits).astype(np.float64).reshape(30, 100).sum(axis=1)
    assert chi_square_passes(draws // 100, blocks / blocks.sum())


def test_typical_keeps_what_is_nearest_to_the_expected_surprise() -> None:
    probabilities = np.array([0.7, 0.1, 0.1, 0.05, 0.05], dtype=np.float32)
    # Entropy 1.01 nats: surprises 0.36, 2.30, 2.30, 3.00, 3.00 differ by 0.65, 1.29, 1.29, 1.98, 1.98.
    kept = sampler.typical_p(candidates(np.log(probabilities)), 0.75)
    assert sorted(kept.ids.tolist()) in ([0, 1], [0, 2])


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 800))
def test_top_k_keeps_the_k_largest(logits: np.ndarray, k: int) -> None:
    kept = sampler.top_k(candidates(logits), k)
    assert len(kept.ids) == (min(k, len(logits)) or len(logits))
    assert np.array_equal(kept.logits, logits[kept.ids])
    assert np.array_equal(np.sort(kept.logits), np.sort(logits)[-len(kept.ids) :])


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_that_reach_p(logits: np.ndarray, p: float) -> None:
    kept = sampler.top_p(candidates(logits), p)
    probabilities = softmax(logits).astype(np.float64)
    mass = probabilities[kept.ids].sum()
    assert mass >= p - 1e-5
    assert mass - probabilities[kept.ids].min() < p + 1e-5
    assert kept.logits.min() >= np.delete(logits, kept.ids).max(initial=-np.inf)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.001, 1.0))
def test_min_p_keeps_all_within_the_ratio(logits: np.ndarray, p: float) -> None:
    kept = set(sampler.min_p(candidates(logits), p).ids.tolist())
    ratios = np.exp(logits.astype(np.float64) - logits.max())
    assert int(logits.argmax()) in kept
    for token, ratio in enumerate(ratios):
        if abs(ratio - p) > 1e-4 * p:
            assert (token in kept) == (ratio > p)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    first, again, other = sampled(LOGITS, 50), sampled(LOGITS, 50), sampled(LOGITS, 50, seed=8)
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_without_a_seed_one_is_drawn_and_can_be_reported() -> None:
    one, two = Sampler(SamplingParams(**OPEN)), Sampler(SamplingParams(**OPEN))
    assert one.seed != two.seed


def test_greedy_takes_the_largest_and_the_lower_id_on_a_tie() -> None:
    logits = np.array([1, 3, 3, 2], dtype=np.float32)
    assert set(sampled(logits, 5, temperature=0)) == {1}


def test_a_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([2, -2, 1, 0], dtype=np.float32)
    changed = sampler.penalised(logits, SamplingParams(repetition_penalty=2), np.array([0, 0]), np.array([1]))
    assert changed.tolist() == [1, -4, 1, 0]
    assert logits.tolist() == [2, -2, 1, 0]


def test_presence_and_frequency_count_the_answer_and_not_the_prompt() -> None:
    logits = np.zeros(4, dtype=np.float32)
    params = SamplingParams(presence_penalty=1, frequency_penalty=0.5)
    changed = sampler.penalised(logits, params, np.array([0, 3]), np.array([1, 1, 2]))
    assert changed.tolist() == [0, -2, -1.5, 0]


def test_the_penalty_window_counts_back_from_the_last_token() -> None:
    logits = np.ones(6, dtype=np.float32)
    params = SamplingParams(repetition_penalty=2, penalty_window=3)
    changed = sampler.penalised(logits, params, np.array([0, 1, 2]), np.array([3, 4]))
    assert changed.tolist() == [1, 1, 0.5, 0.5, 0.5, 1]
    none = sampler.penalised(
        logits, SamplingParams(repetition_penalty=2, penalty_window=0), np.array([0]), np.array([1])
    )
    assert none.tolist() == [1] * 6


def test_forbidden_tokens_are_never_chosen() -> None:
    one = Sampler(SamplingParams(**{**OPEN, "temperature": 0}), frozenset({1}))
    assert one.choose(np.array([1, 9, 2], dtype=np.float32), NONE, NONE) == 2


@pytest.mark.parametrize("bad", [[1, math.nan, 2], [-math.inf, -math.inf], [1, math.inf]])
def test_numbers_that_are_not_finite_are_an_error_and_not_a_token(bad: list[float]) -> None:
    with pytest.raises(NotFinite):
        sampled(np.array(bad, dtype=np.float32), 1)


def test_logprobs_come_from_the_unmodified_logits_best_first() -> None:
    details = logprobs(LOGITS, chosen=4, num_alternatives=3)
    assert details.chosen.token_id == 4
    assert details.chosen.logprob == pytest.approx(math.log(0.06), abs=1e-5)
    assert [one.token_id for one in details.top] == [0, 1, 2]
    assert sum(math.exp(one.logprob) for one in details.top) == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("params", [{}, {"temperature": 0}, {"top_k": 0, "top_p": 1.0, "min_p": 0.0}])
def test_a_vocabulary_of_262k_takes_less_than_a_millisecond(params: dict) -> None:
    import time

    logits = np.random.default_rng(0).standard_normal(262_144).astype(np.float32) * 4
    one = Sampler(SamplingParams(seed=1, **params).completed(SamplingParams()))

    def seconds() -> float:
        start = time.thread_time()
        one.choose(logits, NONE, NONE)
        return time.thread_time() - start

    assert min(seconds() for _ in range(20)) < 0.001


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [5e-324, 1e-50, 1e-30, 1e30, 1e300])
def test_extreme_temperatures_draw_only_the_best_or_all_alike(temperature: float) -> None:
    some = candidates(np.array([3.0, -np.inf, 1.0, -2.0], dtype=np.float32))
    drawn = {draw(some, temperature, uniform) for uniform in np.linspace(0, 1, 50, endpoint=False)}
    assert drawn == ({0} if temperature < 1 else {0, 2, 3})
