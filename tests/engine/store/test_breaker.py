"""The circuit breaker: it opens after failures in a row, rests, and lets one try."""

from __future__ import annotations

from apportion.core.clock import VirtualClock
from apportion.engine.store.breaker import Breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker(VirtualClock(), most_failures=3)
    for _ in range(2):
        assert breaker.allows()
        breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()
    assert breaker.num_breaks == 1


def test_after_its_rest_one_call_decides_for_all() -> None:
    clock = VirtualClock()
    breaker = Breaker(clock, most_failures=1, rest_s=30.0)
    breaker.failed()
    clock.advance(30.0)
    assert breaker.allows()
    assert not breaker.allows()
    breaker.failed()
    clock.advance(29.0)
    assert not breaker.allows()
    clock.advance(1.0)
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
    assert breaker.num_breaks == 1
