"""The machine's own limits: the best of several passes."""

from __future__ import annotations

import pytest

from apportion.bench import limits
from apportion.bench.limits import Bandwidth, arithmetic_peak


def test_bandwidth_is_the_best_of_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, nbytes: int, threads: int) -> None:
            self.rates = iter([10.0, 12.0, 11.0])
            assert (nbytes, threads) == (1 << 20, 2)

        def read(self, threads: int) -> float:
            assert threads == 1
            return next(self.rates)

    monkeypatch.setattr(limits._native, "Stream", Stream)
    assert Bandwidth(2, 1 << 20).measure(1) == 12.0


def test_memory_is_read_and_registers_are_fast() -> None:
    assert Bandwidth(1, 4 << 20).measure(1) > 0.01
    assert arithmetic_peak("int8", 1) > arithmetic_peak("f32", 1, "portable") / 2 > 0
