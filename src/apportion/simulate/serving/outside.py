"""What an engine stands in the middle of, when none of it is real: reads that take virtual time, guesses."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection
from concurrent.futures import Future
from random import Random

import numpy as np

from apportion.core.clock import VirtualClock
from apportion.formats.block import Bytes
from apportion.kernels.ops import Ints
from apportion.simulate.serving.scripted import END, next_token

READ_S = 0.02


class VirtualReads:
    """`engine.prefix.reads.Reads` that end when the virtual clock says so.

    Args:
        read: does the reading, at the moment at which it ends.
        broken: share of the reads that fail, or bring something else and say so.
    """

    def __init__(
        self, clock: VirtualClock, read: Callable[[bytes, Bytes], bool], random: Random, broken: float
    ) -> None:
        self._clock = clock
        self._read = read
        self._random = random
        self._broken = broken
        self._ends: list[float] = []
        self._is_over = False

    def submit(self, key: bytes, memory: Bytes) -> Future[bool]:
        future: Future[bool] = Future()
        seconds = self._random.choice([READ_S, READ_S, 25 * READ_S])
        goes_wrong = self._random.random() < self._broken

        has_begun = self._random.random() < 0.7 and future.set_running_or_notify_cancel()

        def end() -> None:
            if self._is_over or not (has_begun or future.set_running_or_notify_cancel()):
                return
            if goes_wrong:
                memory[:] = 0x55
                future.set_result(False)
            else:
                future.set_result(self._read(key, memory))

        heapq.heappush(self._ends, self._clock.now() + seconds)
        self._clock.call_at(self._clock.now() + seconds, end)
        return future

    def wait(self, reads: Collection[Future[bool]]) -> None:
        while self._ends and self._ends[0] <= self._clock.now():
            heapq.heappop(self._ends)
        moment = self._ends[0] - self._clock.now() if self._ends else READ_S
        self._clock.advance(moment)

    def die(self) -> None:
        """The process that reads is gone."""
        self._is_over = True

    def close(self) -> None:
        """Whatever is under way is over when the clock has gone on so far."""
        if self._ends:
            self._clock.advance(max(max(self._ends) - self._clock.now(), 0.0))


class Guesser:
    """Guesses the scripted model's next tokens; `right` of them are."""

    def __init__(self, random: Random, right: float) -> None:
        self._random = random
        self._right = right

    def propose(self, ids: Ints, most: int) -> Ints:
        context, count = ids, self._random.randint(0, min(most, 5))
        guesses: list[int] = []
        for _ in range(count):
            token = next_token(context)
            if token == END or self._random.random() >= self._right:
                token = self._random.randrange(END)
            guesses.append(token)
            context = np.append(context, np.int32(token))
        return np.array(guesses, np.int32)

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        assert 0 <= accepted <= proposed
        assert seconds >= 0
