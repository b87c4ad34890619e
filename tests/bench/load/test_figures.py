"""Percentiles and goodput of answers that are known."""

from __future__ import annotations

import pytest

from apportion.bench.load.figures import Limits, Spread, figures
from apportion.bench.load.run import Run
from apportion.bench.load.stream import Seen


def answer(due_s: float, ttft_s: float, tpot_s: float, tokens: int = 5) -> Seen:
    times = tuple(due_s + ttft_s + tpot_s * place for place in range(tokens))
    return Seen(due_s, due_s + 0.01, times[-1], text_s=times, prompt_tokens=10, output_tokens=tokens)


def test_percentiles_lie_between_the_values_around_them() -> None:
    found = Spread.of([float(value) for value in range(1, 102)])
    assert found is not None
    assert (found.p50, found.p90, found.p95, found.p99) == pytest.approx((51, 91, 96, 100))
    assert (found.mean, found.max, found.n) == pytest.approx((51, 101, 101))
    assert Spread.of([]) is None


def test_goodput_counts_what_met_both_limits() -> None:
    run = Run(
        [
            answer(0.0, 0.1, 0.1),  # well
            answer(0.0, 0.3, 0.1),  # late
            answer(0.0, 0.1, 0.9),  # slow
            answer(1.0, 0.1, 0.05, tokens=1),  # well, with no second token
            Seen(0.0, 0.0, 0.0, failure="HTTP 429"),
        ],
        9.0,
        0.004,
    )
    found = figures(run, Limits(0.2, 0.2))
    assert found.seconds == pytest.approx(3.7)  # the last text of the third
    assert (found.requests, found.answered, found.failed) == (5, 4, {"HTTP 429": 1})
    assert found.goodput_per_s == pytest.approx(2 / 3.7)
    assert found.well_served == pytest.approx(0.4)
    assert found.output_tok_s == pytest.approx(16 / 3.7)
    assert found.prompt_tokens == 40
    assert found.ttft_s is not None
    assert found.ttft_s.max == pytest.approx(0.3)
    assert found.tpot_s is not None
    assert found.tpot_s.n == 3
    assert found.gap_s is not None
    assert found.gap_s.n == 12
    assert found.late_s == pytest.approx(0.01)
    assert found.generator_us_per_token == pytest.approx(250)


def test_a_run_without_answers_has_figures() -> None:
    found = figures(Run([Seen(0.0, 0.0, 0.0, failure="unfinished")], 2.0, 0.1), Limits(1, 1))
    assert (found.answered, found.ttft_s, found.well_served, found.output_tok_s) == (0, None, 0.0, 0.0)
    assert found.seconds == 2.0
