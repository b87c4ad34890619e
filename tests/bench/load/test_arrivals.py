"""When requests come."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest

from apportion.bench.load.arrivals import orders, poisson, whenever


def test_times_are_a_poisson_process_of_the_rate() -> None:
    times = list(islice(poisson(20.0, 1, seed=3), 4000))
    gaps = np.diff(times)
    assert times[0] == 0
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.08)  # of an exponential distribution


def test_bursts_come_at_once_and_keep_the_rate() -> None:
    times = list(islice(poisson(20.0, 4, seed=3), 4000))
    assert set(Counter(times).values()) == {4}
    assert times[-1] == pytest.approx(4000 / 20, rel=0.1)
    assert all(after >= before for before, after in pairwise(times))


def test_a_seed_repeats_the_times() -> None:
    def first(seed: int) -> list[float]:
        return list(islice(poisson(1.0, 1, seed), 9))

    assert first(1) == first(1) != first(2)


def test_orders_are_as_many_as_are_wanted() -> None:
    assert [order.at_s for order in orders(iter([0.0, 1.0, 2.0]), 5, 6, 2)] == [0.0, 1.0]
    assert [(order.prompt_tokens, order.output_tokens) for order in whenever(5, 6, 2)] == [(5, 6)] * 2
