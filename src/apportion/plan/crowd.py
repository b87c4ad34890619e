"""How many tokens pass a layer of experts at once: what the engine does, and forecasts reckon with."""

from __future__ import annotations

from typing import TypeVar

from apportion.core.units import MiB

Count = TypeVar("Count", int, float)  # of experts; a forecast reckons with means

READ_AHEAD_NBYTES = 28 * MiB  # on their way at once, to keep a disk busy
CROWD = 15 / 16  # of a layer's experts: what is read ahead is wasted where the next layer does not need it


def read_slots(num_slots: int, expert_nbytes: int) -> int:
    """How many of a layer's slots many tokens' experts are read into: as many as keep a disk busy, twice that
    where it is at most half of them. What the others keep saves a read.
    """
    busy = -(-READ_AHEAD_NBYTES // max(1, expert_nbytes))
    return min(num_slots, max(2, busy, min(num_slots // 2, 2 * busy)))


def num_leaving(num_slots: int, num_read_slots: int, needed: Count, hits: Count) -> Count:
    """How many of the `hits` among the `needed` experts make way at first, for others to be read into their
    slots: none where all have room, and never more than are missing.
    """
    if needed <= num_slots:
        return 0
    return max(0, hits - (num_slots - min(num_read_slots, needed - hits)))


def is_crowd(num_chosen: int, num_experts: int) -> bool:
    """Whether tokens chose so many of a layer's experts that they will need almost all of the next."""
    return num_chosen >= CROWD * num_experts
