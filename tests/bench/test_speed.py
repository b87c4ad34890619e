"""Timing: what is run, how often, and what is made of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from apportion.bench import speed
from apportion.bench.speed import Rates, Timed, measure, with_bandwidth


class Counter:
    """Stands for a model; notes the shape of every pass."""

    config = SimpleNamespace(vocab_size=9, context_length=4096)

    def __init__(self) -> None:
        self.passes: list[int] = []

    def new_cache(self, capacity: int) -> SimpleNamespace:
        return SimpleNamespace(truncate=lambda length: None)

    def forward(self, ids: np.ndarray, cache: object) -> None:
        self.passes.append(len(ids))


def test_prefill_runs_in_passes_of_512_and_decode_token_by_token() -> None:
    model = Counter()
    measure(lambda threads: model, [("prefill", 1100), ("decode", 3)], [1], repetitions=2)
    assert model.passes == [512, 512, 76] * 3 + [1] * 9


def test_every_line_says_what_it_measured_and_the_warm_up_does_not_count(monkeypatch) -> None:
    seconds = iter([100.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(speed, "timed", lambda *_: next(seconds))
    told = []
    lines = measure(lambda threads: Counter(), [("decode", 8)], [2], 3, lambda *event: told.append(event))
    assert lines == [Timed("decode", 8, 2, Rates(median=4.0, min=2.0, max=8.0))]
    assert [event[:2] for event in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_each_number_of_threads_asks_for_its_own_model() -> None:
    asked = []

    def model_of(threads: int) -> Counter:
        asked.append(threads)
        return Counter()

    measure(model_of, [("decode", 1)], [1, 2], 1)
    assert asked == [1, 2]


def test_the_share_of_bandwidth_is_bytes_per_second_by_streamed_bytes(monkeypatch) -> None:
    monkeypatch.setattr(speed._native, "stream_bandwidth", lambda nbytes, threads: 20.0 * threads)
    lines = [
        Timed("decode", 16, 2, Rates(100.0, 90.0, 110.0)),
        Timed("prefill", 1024, 1, Rates(512.0, 1.0, 2.0)),
    ]
    decode, prefill = with_bandwidth(lines, 100_000_000)
    assert decode.bytes_per_token == 100_000_000
    assert decode.bandwidth_share == pytest.approx(100 * 1e8 / 40e9)
    assert prefill.bytes_per_token == pytest.approx(1e8 / 512)
    assert prefill.bandwidth_share == pytest.approx(1e8 / 20e9)
