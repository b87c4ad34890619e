"""Placements: which units stay in memory, decided before the run. One file each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from apportion.core.keys import UnitKey
from apportion.policies.family import Policy, PolicyFamily


@dataclass(frozen=True, slots=True)
class PlacedUnit:
    """A unit that may stay.

    Attributes:
        nbytes: the room that it takes.
        uses: how often it is used, per token or in all: only their proportions count.
    """

    key: UnitKey
    nbytes: int
    uses: float = 1.0


class Placement(Policy):
    """Decides what stays in memory."""

    budget: ClassVar[str] = "dense weights, expert slots"

    def choose(self, units: Sequence[PlacedUnit], nbytes: int) -> Sequence[UnitKey]:
        """The keys of the units to keep; together they take at most `nbytes`."""
        raise NotImplementedError


def those_that_fit(units: Iterable[PlacedUnit], nbytes: int) -> list[UnitKey]:
    """The first units, one after the other; one for which there is no more room is passed over."""
    kept = []
    for unit in units:
        if unit.nbytes <= nbytes:
            kept.append(unit.key)
            nbytes -= unit.nbytes
    return kept


PLACEMENTS = PolicyFamily("placement", __name__, Placement, "layer_order")
