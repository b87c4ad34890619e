from __future__ import annotations

import pytest

from apportion.core.histogram import SECONDS, TOKENS, Histogram


def test_a_value_counts_at_the_first_edge_that_is_not_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.num_values == 5
    assert histogram.total == 7.5


def test_a_value_can_come_several_times_at_once() -> None:
    histogram = Histogram((1.0,))
    histogram.add(0.5, 8)
    assert (histogram.counts, histogram.total) == ([8, 0], 4.0)


def test_edges_ascend() -> None:
    with pytest.raises(AssertionError):
        Histogram((2.0, 1.0))


def test_waits_of_minutes_have_buckets_of_their_own() -> None:
    assert SECONDS[-1] == 2560
    assert [edge for edge in SECONDS if edge >= 60] == [80, 160, 320, 640, 1280, 2560]
    assert TOKENS[-1] == 100_000
