"""A layer's experts in slots of a tier: which are there, which are coming, and what kept one away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from apportion import _native
from apportion.core.errors import ApportionError
from apportion.memory.arena import Arena
from apportion.memory.reader import Part, Reader


class ExpertPlaces(NamedTuple):
    """Where an expert is in files and in its slot, and where in the slot gate, up and down begin."""

    parts: Sequence[Part]
    starts: tuple[int, int, int]


class Shelf(Protocol):
    """Experts by number. One has a slot from when it begins to come until it is given up; the table that the
    shelf was made with says where it is from when it is there. What computes with it waits for it by itself;
    what one that somebody asked for took is counted in the times that the shelf was made with.

    One thread at a time; others may ask `here` and `uses`.
    """

    @property
    def num_held(self) -> int:
        """Experts that have a slot."""

    @property
    def num_coming(self) -> int:
        """Those of them that are not there yet."""

    def holds(self, expert: int, /) -> bool:
        """Whether it has a slot."""

    def is_ready(self, expert: int, /) -> bool:
        """Whether it is there, or can be taken in without waiting."""

    def here(self, without: Sequence[int], /) -> list[int]:
        """Experts that are there, but these."""

    def ask(self, experts: Sequence[int], /) -> tuple[int, list[int]]:
        """Tokens use these, each of which counts: how many are there, and those that have no slot. What is
        coming is waited for from now on.
        """

    def let_go(self, num_slots: int, order: Sequence[int], /) -> None:
        """From here on a token may bring its experts by itself, in so many slots, where those of this order
        leave for it, first ones first; the shelf passes over what the token needs.
        """

    def start(self, expert: int, prefetch: bool = False) -> bool:
        """Begin to bring an expert; False where no slot is free."""

    def give_up(self, expert: int, /) -> None:
        """Free the slot of one that is there."""

    def take_in(self) -> None:
        """What has come without being waited for is there from here on."""

    def wait(self) -> None:
        """Return when one more is there, or does not come."""

    @property
    def has_failed(self) -> bool:
        """Whether one that was waited for or taken in did not come."""

    def failure(self) -> tuple[int, ApportionError] | None:
        """Which one, and what keeps it away; told once."""

    def settle(self) -> bool:
        """Free the slots of what failed and writes to them no more; whether there are others."""

    def recover(self) -> list[int]:
        """After the reader was told to forget all reads: give up what was coming, and say what that was."""

    def uses(self) -> tuple[list[int], list[int]]:
        """How often each expert was asked for and there, and how often it was asked for and not."""

    def close(self) -> None:
        """Give all experts up; nothing may be coming."""


class RamShelf:
    """`Shelf` of an arena that a reader fills. All of its work but the telling of errors is the core's."""

    def __init__(
        self,
        arena: Arena,
        reader: Reader,
        table: _native.ExpertTable,
        times: _native.LoadTimes,
        experts: Sequence[ExpertPlaces],
    ) -> None:
        units = [([part.native for part in places.parts], places.starts) for places in experts]
        self._native = native = _native.ExpertShelf(table, arena.native, reader.native, times, units)
        self._reader = reader
        # Bound once, not passed on: they are called for each expert that a token misses.
        self.holds, self.is_ready, self.here = native.holds, native.is_ready, native.here
        self.ask, self.let_go = native.ask, native.let_go
        self.start, self.give_up = native.start, native.give_up
        self.take_in, self.wait, self.settle = native.take_in, native.wait, native.settle
        self.recover, self.uses, self.close = native.recover, native.uses, native.close

    @property
    def num_held(self) -> int:
        return self._native.num_held

    @property
    def num_coming(self) -> int:
        return self._native.num_coming

    @property
    def has_failed(self) -> bool:
        return self._native.has_failed

    def failure(self) -> tuple[int, ApportionError] | None:
        failure = self._native.failure()
        return None if failure is None else (failure[0], self._reader.error(failure[1]))
