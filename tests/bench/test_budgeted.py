"""Measuring under a budget: which runs count, and what is made of them."""

from __future__ import annotations

import pytest

from apportion.bench.budgeted import tokens_of_routes, warmups
from apportion.bench.limits import Rates
from apportion.bench.speed import Line
from apportion.bench.traffic import Counts, Traffic, rates_of

PROMPT, ANSWER = Line("prefill", 64, 2), Line("decode", 16, 2)


@pytest.mark.parametrize(
    ("line", "warmup", "tokens"),
    [
        (PROMPT, None, [64]),
        (PROMPT, 100, [64]),
        (PROMPT, 0, []),
        (ANSWER, None, [16]),
        (ANSWER, 0, []),
        (ANSWER, 5, [5]),
        (ANSWER, 40, [16, 16, 8]),
    ],
)
def test_uncounted_runs_have_as_many_tokens_as_asked_and_fit_into_the_cache(
    line: Line, warmup: int | None, tokens: list[int]
) -> None:
    assert [run.tokens for run in warmups(line, warmup)] == tokens


@pytest.mark.parametrize(("warmup", "tokens"), [(None, 48), (0, 32), (100, 132)])
def test_a_replay_needs_the_tokens_of_all_answers(warmup: int | None, tokens: int) -> None:
    assert tokens_of_routes([ANSWER], 2, warmup) == tokens


def test_a_replay_needs_the_tokens_of_the_longest_prompt() -> None:
    assert tokens_of_routes([PROMPT, ANSWER], 2, 0) == 64


def test_traffic_is_told_per_token_and_per_second() -> None:
    grown = Counts(30, 5_000_000_000, stall_s=3.0, reading_s=3.5) - Counts(10, 1_000_000_000, 1.0, 1.5)
    traffic = Traffic()
    traffic.add(grown, tokens=10, seconds=4.0, experts_per_token=8)
    assert traffic.hit_rate == [1 - 20 / 80]
    assert traffic.disk_bytes_per_token == [4e8]
    assert traffic.disk_GBps == [1.0]
    assert traffic.stall_share == [0.5]
    assert traffic.reading_GBps == [2.0]


def test_a_prompt_has_no_hit_rate() -> None:
    traffic = Traffic()
    traffic.add(Counts(5, 1, 0.0, 0.0), tokens=10, seconds=4.0, experts_per_token=None)
    assert rates_of(traffic.hit_rate) is None
    assert rates_of(traffic.disk_bytes_per_token) == Rates(0.1, 0.1, 0.1)
    assert rates_of(traffic.reading_GBps) is None, "nothing was in flight"


def test_a_read_that_has_not_ended_makes_no_rate() -> None:
    traffic = Traffic()
    traffic.add(Counts(0, 0, 0.0, reading_s=2.0), tokens=10, seconds=4.0, experts_per_token=None)
    assert rates_of(traffic.reading_GBps) is None
