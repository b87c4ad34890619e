"""How many tokens pass a layer of experts at once: what the engine does, and forecasts reckon with."""

from __future__ import annotations

from apportion.core.units import MiB

READ_AHEAD_NBYTES = 28 * MiB  # on their way at once, to keep a disk busy
CROWD = 8  # tokens for each expert from which on all experts of a layer will be needed


def read_slots(num_slots: int, expert_nbytes: int) -> int:
    """How many of a layer's slots many tokens' experts are read into: half of them, or more where that is
    little to have on its way. What the others keep saves a read.
    """
    busy = -(-READ_AHEAD_NBYTES // max(1, expert_nbytes))
    return min(num_slots, max(2, num_slots // 2, busy))


def is_crowd(num_choices: int, num_experts: int) -> bool:
    """Whether so many choices leave no expert out, so that reading may begin before they are made."""
    return num_choices >= CROWD * num_experts
