"""The clock port: real time, virtual time for simulations, and a clock that misbehaves on purpose."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Durations are measured with `now`, dates are told with `wall`."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""

    def wall(self) -> float:
        """Seconds since 1970 as the machine believes; may jump either way."""

    def sleep(self, seconds: float) -> None:
        """Return after at least `seconds`; at once when that is zero or less."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0))


class VirtualClock:
    """Time that passes only when told. Actions fall due in the order of their times, equal times in the order
    in which they were asked for, so a simulation runs the same way every time. For one thread.
    """

    def __init__(self, start: float = 0.0, wall: float = 1_750_000_000.0) -> None:
        self._now = start
        self._wall_offset = wall - start
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._wall_offset

    def sleep(self, seconds: float) -> None:
        self.advance(max(seconds, 0.0))

    def call_at(self, when: float, action: Callable[[], object]) -> int:
        """Run `action` once time reaches `when` (a past time: at the next advance). The number cancels it."""
        number = next(self._numbers)
        heapq.heappush(self._waiting, (when, number, action))
        return number

    def cancel(self, number: int) -> bool:
        """Forget a waiting action; False when it has run or was cancelled already."""
        waits = number not in self._cancelled and any(entry[1] == number for entry in self._waiting)
        if waits:
            self._cancelled.add(number)
        return waits

    def next_due(self) -> float | None:
        """When the next action falls due; None when nothing waits."""
        self._drop_cancelled()
        return self._waiting[0][0] if self._waiting else None

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and run what falls due meanwhile, also what those actions ask for. An action may
        itself sleep.
        """
        assert seconds >= 0, seconds
        end = self._now + seconds
        while (due := self.next_due()) is not None and due <= end:
            action = heapq.heappop(self._waiting)[2]
            self._now = max(self._now, due)
            action()
        self._now = max(self._now, end)

    def run(self) -> None:
        """Advance until nothing waits. Does not return if actions keep asking for more."""
        while (due := self.next_due()) is not None:
            self.advance(max(due - self._now, 0.0))

    def _drop_cancelled(self) -> None:
        while self._waiting and self._waiting[0][1] in self._cancelled:
            self._cancelled.remove(heapq.heappop(self._waiting)[1])


class FaultyClock:
    """Another clock, seen through a suspended machine and a badly set date: `wall` jumps both ways, `now`
    only forward (it promises that much), `sleep` oversleeps. The same seed jumps the same way.
    """

    def __init__(self, inner: Clock, seed: int, *, chance: float = 0.1, max_jump_s: float = 3_600.0) -> None:
        self._inner = inner
        self._random = random.Random(seed)
        self._chance = chance
        self._max_jump_s = max_jump_s
        self._ahead = 0.0
        self._wall_error = 0.0

    def now(self) -> float:
        self._ahead += self._jump(0.0)
        return self._inner.now() + self._ahead

    def wall(self) -> float:
        self._wall_error += self._jump(-self._max_jump_s)
        return self._inner.wall() + self._wall_error

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
        self._ahead += self._jump(0.0)

    def _jump(self, lowest: float) -> float:
        if self._random.random() >= self._chance:
            return 0.0
        return self._random.uniform(lowest, self._max_jump_s)
