"""How long guesses are: by what steps cost and how many guesses were right."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.engine.speculation.length import LAST_REST, MOST, PLAIN_EVERY, TRIAL, AdaptiveLength, Costs


def simulated(right: float, each: float, steps: int = 600, seed: int = 0) -> tuple[list[int], float]:
    """Lengths chosen, and tokens a second against none guessed, where each guess is right with a chance, and
    adds `each` of a step's time.
    """
    rng, length = np.random.default_rng(seed), AdaptiveLength(Costs())
    lengths, tokens, seconds = [], 0, 0.0
    for _ in range(steps):
        proposed = length.choose()
        accepted = int(np.argmax(np.append(rng.random(proposed) >= right, True)))
        took = 0.02 * (1 + each * proposed) * rng.uniform(0.95, 1.05)
        length.took(proposed, accepted, took)
        lengths.append(proposed)
        tokens += 1 + accepted
        seconds += took
    return lengths, tokens / seconds * 0.02


def test_cheap_guesses_that_are_right_grow_to_the_longest() -> None:
    lengths, gain = simulated(right=0.97, each=0.02)
    assert np.mean(np.array(lengths[50:]) == MOST) > 0.8
    assert gain > 4


def test_dear_guesses_stay_short() -> None:
    lengths, gain = simulated(right=0.8, each=0.4)
    assert 1 <= np.median(lengths[50:]) <= 3
    assert gain > 1.05


@pytest.mark.parametrize(("right", "each"), [(0.05, 0.3), (0.0, 0.02), (0.3, 0.9)])
def test_guesses_that_do_not_pay_cost_next_to_nothing(right: float, each: float) -> None:
    lengths, gain = simulated(right, each, steps=3000)
    assert np.mean(np.array(lengths) > 0) < 0.06
    assert gain > 0.93


def test_they_are_tried_again_and_taken_up_when_they_begin_to_pay() -> None:
    length, chosen = AdaptiveLength(Costs()), []
    for step in range(1500):
        proposed = length.choose()
        accepted = proposed if step > 700 else 0
        length.took(proposed, accepted, 0.02 * (1 + 0.1 * proposed))
        chosen.append(proposed)
    assert np.mean(np.array(chosen[200:700]) > 0) < 0.1
    assert np.mean(np.array(chosen[700 + LAST_REST + 2 * TRIAL :]) > 0) > 0.9


def test_a_step_without_guesses_is_timed_first_and_now_and_then() -> None:
    lengths, _ = simulated(right=1.0, each=0.0, steps=400)
    assert lengths[0] == 0
    plain = np.flatnonzero(np.array(lengths) == 0)
    assert max(np.diff(plain)) <= PLAIN_EVERY + 1


def test_one_step_that_waited_does_not_end_it() -> None:
    length = AdaptiveLength(Costs())
    for step in range(200):
        proposed = length.choose()
        seconds = 0.02 * (1 + 0.05 * proposed)
        length.took(proposed, proposed, 60.0 if step == 50 else seconds)
    assert length.choose() == MOST


def test_requests_share_what_steps_cost_and_judge_their_own_guesses() -> None:
    costs = Costs()
    good, bad = AdaptiveLength(costs), AdaptiveLength(costs)
    chosen: dict[str, list[int]] = {"good": [], "bad": []}
    for _ in range(200):
        for name, length in (("good", good), ("bad", bad)):
            proposed = length.choose()
            length.took(proposed, proposed if name == "good" else 0, 0.02 * (1 + 0.1 * proposed))
            chosen[name].append(proposed)
    assert np.mean(np.array(chosen["good"][50:]) > 0) > 0.9
    assert np.mean(np.array(chosen["bad"][50:]) > 0) < 0.2


def test_costs_between_and_beyond_what_was_seen_lie_on_lines() -> None:
    costs = Costs()
    assert costs.ratio(3) == 1.0
    costs.took(0, 1.0)
    costs.took(2, 1.4)
    assert costs.ratio(1) == pytest.approx(1.2)
    assert costs.ratio(2) == pytest.approx(1.4)
    assert costs.ratio(4) == pytest.approx(1.8)
    costs.took(6, 3.0)
    assert costs.ratio(4) == pytest.approx(2.2)
    assert costs.ratio(8) == pytest.approx(1 + 8 * 2 / 6)
