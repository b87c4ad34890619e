"""A cost model finds the figures that steps were made from, and says how far off it is."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from apportion.core.errors import UsageError
from apportion.engine.step_log import LoggedItem, LoggedStep, StepLog
from apportion.simulate.serving.cost import Experts, StepCost, fit, non_negative, tokens_by_layer, with_gaps

LAYERS = 4
TRUE = StepCost(0.01, 0.002, 0.0005, 1e-6, 0.0003, knee=16)


def random_items(random: Random) -> tuple[LoggedItem, ...]:
    items = [LoggedItem(n, 1, random.randint(1, 2000), 0, LAYERS) for n in range(random.randint(0, 12))]
    if not items or random.random() < 0.5:
        layers = random.choice([(0, LAYERS), (0, 2), (2, LAYERS)])
        items.append(LoggedItem(99, random.choice([1, 7, 64, 300]), random.randint(0, 500), *layers))
    return tuple(items)


def made_log(noise: float, cost: StepCost = TRUE, count: int = 300) -> StepLog:
    random, log, now = Random(1), StepLog(LAYERS), 0.0
    for _ in range(count):
        items = random_items(random)
        seconds = cost.seconds(items, LAYERS) * max(random.gauss(1, noise), 0.1)
        log.steps.append(LoggedStep(now, seconds, items))
        now += seconds
    return log


def test_steps_without_noise_are_explained_to_the_last_digit() -> None:
    fitted = fit(made_log(0.0))
    for name in ("fixed_s", "token_s", "further_token_s", "attended_s", "request_s"):
        assert getattr(fitted.cost, name) == pytest.approx(getattr(TRUE, name), rel=1e-6)
    assert fitted.cost.knee == 16
    assert fitted.p90_error < 1e-9
    assert max(map(abs, fitted.residuals)) < 1e-9


def test_noise_shows_in_the_stated_error() -> None:
    fitted = fit(made_log(0.1))
    assert 0.05 < fitted.median_error < 0.1
    assert 0.12 < fitted.p90_error < 0.25
    assert abs(fitted.total_error) < 0.05
    assert f"{fitted.median_error:.1%}" in fitted.sentence()
    assert len(fitted.residuals) == 300


def test_what_passes_between_two_steps_of_a_request_belongs_to_the_first() -> None:
    def step(begin_s: float, request: int) -> LoggedStep:
        return LoggedStep(begin_s, 0.5, (LoggedItem(request, 1, 10, 0, LAYERS),))

    steps = [step(0.0, 1), step(0.75, 1), step(4.0, 2), step(4.25, 2)]
    assert [one.seconds for one in with_gaps(steps)] == [0.75, 0.5, 0.5, 0.5]
    assert with_gaps([]) == []


def test_the_error_is_of_steps_that_were_not_fitted_to() -> None:
    log = made_log(0.0, count=40)
    log.steps[1::2] = [LoggedStep(s.begin_s, s.seconds * 3, s.items) for s in log.steps[1::2]]
    assert fit(log).median_error == pytest.approx(2 / 3, abs=0.01)


def test_steps_that_are_slow_by_chance_count_in_the_sum() -> None:
    log = made_log(0.05)
    log.steps[::10] = [LoggedStep(s.begin_s, s.seconds * 3, s.items) for s in log.steps[::10]]
    fitted = fit(log)
    assert sum(fitted.residuals) == pytest.approx(0, abs=1e-6)
    assert fitted.cost.fixed_s > TRUE.fixed_s


def test_no_figure_is_below_zero() -> None:
    random, log = Random(2), StepLog(LAYERS)
    for number in range(100):
        log.steps.append(LoggedStep(float(number), random.uniform(0.01, 0.02), random_items(random)))
    assert min(fit(log).cost.to_dict()[name] for name in ("fixed_s", "token_s", "attended_s")) >= 0


def test_non_negative_least_squares_is_the_best_of_all_that_are_not_negative() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        rows, wanted = generator.normal(size=(30, 3)), generator.normal(size=30)
        found = non_negative(rows, wanted)
        assert (found >= 0).all()
        least = ((rows @ found - wanted) ** 2).sum()
        for other in np.abs(generator.normal(size=(200, 3))) * 0.3:
            assert least <= ((rows @ other - wanted) ** 2).sum() + 1e-9


def test_experts_are_read_once_for_all_tokens_of_a_step() -> None:
    experts = Experts(count=64, top_k=8, nbytes=3 << 30, bandwidth_Bps=1 << 30)
    assert experts.read_s([1] * LAYERS) == pytest.approx(3 / 8)
    assert experts.read_s([8] * LAYERS) < 8 * 3 / 8
    assert experts.read_s([1000] * LAYERS) == pytest.approx(3.0)
    assert experts.read_s([1000, 1000, 0, 0]) == pytest.approx(1.5)
    cost = StepCost(0.01, 0.001, 0.0005, 0.0, 0.0, knee=16, experts=experts)
    fitted = fit(made_log(0.0, cost), experts)
    assert fitted.p90_error < 1e-6
    whole, half = LoggedItem(0, 512, 0, 0, LAYERS), LoggedItem(0, 256, 0, 0, LAYERS)
    assert cost.seconds([whole], LAYERS) < 2 * cost.seconds([half], LAYERS) - 2.9


def test_tokens_are_counted_layer_by_layer() -> None:
    items = [LoggedItem(0, 10, 0, 1, 3), LoggedItem(1, 1, 5, 0, 4)]
    assert tokens_by_layer(items, 4) == [1, 11, 11, 1]
    assert tokens_by_layer(items[:1], 4) == [0, 10, 10, 0]


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="too few steps"):
        fit(made_log(0.0, count=5))
