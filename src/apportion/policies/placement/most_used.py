"""What is used most for its size stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core.keys import UnitKey
from apportion.policies.placement import PlacedUnit, Placement, those_that_fit


@dataclass(frozen=True, slots=True)
class MostUsed(Placement):
    """Keeps the units with the most uses per byte; equals in the order in which a token meets them.

    Source: G. B. Dantzig, "Discrete-Variable Extremum Problems", Operations Research 5(2), 1957 (the greedy
    rule of the knapsack).
    """

    def choose(self, units: Sequence[PlacedUnit], nbytes: int) -> Sequence[UnitKey]:
        ranked = sorted(units, key=lambda unit: (-unit.uses / max(unit.nbytes, 1), unit.key))
        return those_that_fit(ranked, nbytes)


POLICY = MostUsed()
