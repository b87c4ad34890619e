"""An executor that computes nothing and takes as long as it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np

from apportion.core.clock import VirtualClock
from apportion.engine.executor import RunItem, Table
from apportion.engine.step_log import LoggedItem, logged
from apportion.formats.block import Floats
from apportion.simulate.serving.scripted import ScriptedTable

Seconds: TypeAlias = Callable[[Sequence[LoggedItem]], float]

LOGITS = np.array([[1.0, 0.0]], np.float32)  # of a vocabulary of 2: the answer to everything is 0


class TimedExecutor:
    """Lets `seconds(items)` pass on the clock. Every token is 0.

    Attributes:
        busy_s: time that steps took.
    """

    def __init__(self, clock: VirtualClock, num_layers: int, seconds: Seconds, *, streams: bool) -> None:
        self.busy_s = 0.0
        self._clock = clock
        self._num_layers = num_layers
        self._seconds = seconds
        self._streams = streams

    @property
    def num_layers(self) -> int:
        return self._num_layers

    @property
    def streams(self) -> bool:
        return self._streams

    @property
    def finds_best(self) -> bool:
        return False

    @property
    def layer(self) -> int:
        return 0

    def new_table(self) -> ScriptedTable:
        return ScriptedTable()

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        """Its runs take no real time."""

    def run(self, items: Sequence[RunItem]) -> list[Floats | None]:
        seconds = self._seconds(logged(items))
        self.busy_s += seconds
        self._clock.advance(seconds)
        return [np.repeat(LOGITS, item.num_logits, axis=0) if item.num_logits else None for item in items]

    def release(self, table: Table) -> None:
        """It holds nothing."""

    def forget(self, requests: Collection[int]) -> None:
        """Nothing is on its way."""
