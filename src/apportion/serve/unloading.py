"""Which idle models give way: those that are worth least for the memory that they take.

A model in memory saves the seconds that loading it again takes whenever somebody asks for it. How soon that
will be is guessed from when it was used last and how often it was; per byte, this is what
GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1, 1998) keeps files in a cache by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SOONEST_S = 1.0


@dataclass(frozen=True, slots=True)
class IdleModel:
    """A model that nobody uses now.

    Attributes:
        nbytes: that unloading it frees.
        load_s: seconds that loading it took.
        idle_s: since somebody used it.
        num_uses: in the `known_s` seconds since it was first asked for.
    """

    name: str
    nbytes: int
    load_s: float
    idle_s: float
    num_uses: int
    known_s: float

    @property
    def worth(self) -> float:
        """Seconds of loading that a byte of it saves, for each second that it stays."""
        between_s = self.known_s / max(1, self.num_uses)
        return self.load_s / max(SOONEST_S, self.idle_s, between_s) / max(1, self.nbytes)


def giving_way(models: Sequence[IdleModel], nbytes: int) -> list[str] | None:
    """Names of those that go so that so many bytes become free, the one that is worth least first; none that
    could stay. None where all of them together do not free as many.
    """
    going: list[IdleModel] = []
    freed = 0
    for model in sorted(models, key=lambda one: (one.worth, one.name)):
        if freed >= nbytes:
            break
        going.append(model)
        freed += model.nbytes
    if freed < nbytes:
        return None
    for model in reversed(going):  # a larger one that came later may be enough by itself
        if freed - model.nbytes >= nbytes:
            going.remove(model)
            freed -= model.nbytes
    return [model.name for model in going]
