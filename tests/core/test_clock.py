from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from apportion.core.clock import Clock, FaultyClock, RealClock, VirtualClock


def test_the_real_clock_goes_forward_and_sleeps() -> None:
    clock = RealClock()
    before = clock.now()
    clock.sleep(0.01)
    clock.sleep(-5)
    assert clock.now() - before >= 0.01
    assert clock.wall() > 1_600_000_000


def test_virtual_time_passes_only_when_told() -> None:
    clock = VirtualClock(start=5.0, wall=1000.0)
    assert (clock.now(), clock.now(), clock.wall()) == (5.0, 5.0, 1000.0)
    clock.sleep(2.5)
    clock.sleep(-1)
    assert (clock.now(), clock.wall()) == (7.5, 1002.5)


def test_actions_run_in_the_order_of_their_times_then_of_asking() -> None:
    clock, seen = VirtualClock(), []
    for name, when in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("never", 9.0)):
        clock.call_at(when, lambda name=name: seen.append((name, clock.now())))
    clock.advance(5.0)
    assert seen == [("first", 1.0), ("second", 1.0), ("late", 3.0)]
    assert clock.next_due() == 9.0
    assert clock.now() == 5.0


def test_an_action_may_ask_for_another_and_may_sleep() -> None:
    clock, seen = VirtualClock(), []

    def first() -> None:
        clock.call_at(2.0, lambda: seen.append(clock.now()))
        clock.sleep(4.0)

    clock.call_at(1.0, first)
    clock.advance(1.5)
    assert seen == [2.0]
    assert clock.now() == 5.0


def test_a_cancelled_action_does_not_run_and_cancels_once() -> None:
    clock, seen = VirtualClock(), []
    number = clock.call_at(1.0, lambda: seen.append("ran"))
    assert clock.cancel(number)
    assert not clock.cancel(number)
    assert not clock.cancel(99)
    clock.run()
    assert seen == []
    assert clock.next_due() is None


def test_an_action_of_the_past_runs_at_the_next_advance() -> None:
    clock, seen = VirtualClock(start=10.0), []
    clock.call_at(3.0, lambda: seen.append(clock.now()))
    clock.advance(0.0)
    assert seen == [10.0]


def test_run_ends_when_nothing_waits() -> None:
    clock, seen = VirtualClock(), []
    clock.call_at(1.0, lambda: clock.call_at(7.0, lambda: seen.append(clock.now())))
    clock.run()
    assert seen == [7.0]


def test_time_cannot_be_advanced_backwards() -> None:
    with pytest.raises(AssertionError):
        VirtualClock().advance(-1.0)


def readings(clock: Clock) -> list[float]:
    return [read() for _ in range(200) for read in (clock.now, clock.wall)]


def test_a_faulty_clock_jumps_the_same_way_for_the_same_seed() -> None:
    assert readings(FaultyClock(VirtualClock(), 7)) == readings(FaultyClock(VirtualClock(), 7))
    assert readings(FaultyClock(VirtualClock(), 7)) != readings(FaultyClock(VirtualClock(), 8))


def test_a_faulty_clocks_date_jumps_both_ways() -> None:
    clock = FaultyClock(VirtualClock(), 1, chance=0.5)
    walls = [clock.wall() for _ in range(100)]
    steps = [after - before for before, after in pairwise(walls)]
    assert min(steps) < 0 < max(steps)


@given(st.integers(0, 2**32), st.lists(st.floats(-1, 10), max_size=30))
def test_a_faulty_clocks_monotonic_time_never_goes_back(seed: int, sleeps: list[float]) -> None:
    clock = FaultyClock(VirtualClock(), seed, chance=0.5)
    last = clock.now()
    for seconds in sleeps:
        clock.sleep(seconds)
        now = clock.now()
        assert now - last >= max(seconds, 0.0) - 1e-6
        last = now


def test_a_faulty_clock_without_faults_is_its_inner_clock() -> None:
    inner = VirtualClock()
    clock = FaultyClock(inner, 0, chance=0.0)
    clock.sleep(3.0)
    assert (clock.now(), clock.wall()) == (inner.now(), inner.wall())


class ClockMachine(RuleBasedStateMachine):
    """Whatever is asked, cancelled and advanced: each action runs once, on time, unless it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.due: dict[int, float] = {}
        self.ran: list[tuple[float, int]] = []
        self.late = False

    @rule(delay=st.floats(0, 10))
    def ask(self, delay: float) -> None:
        when = self.clock.now() + delay

        def action() -> None:
            self.late |= self.clock.now() != when
            self.ran.append((when, number))
            del self.due[number]

        number = self.clock.call_at(when, action)
        self.due[number] = when

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.due:
            number = data.draw(st.sampled_from(sorted(self.due)))
            assert self.clock.cancel(number)
            del self.due[number]

    @rule(seconds=st.floats(0, 10))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def nothing_due_is_left_and_all_ran_in_order(self) -> None:
        assert not self.late
        assert self.ran == sorted(self.ran)
        assert self.clock.next_due() == min(self.due.values(), default=None)
        assert all(when >= self.clock.now() for when in self.due.values())


TestClockMachine = ClockMachine.TestCase
