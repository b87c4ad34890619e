"""By chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from apportion.policies.expert_cache import ExpertCache


@dataclass(frozen=True, slots=True)
class RandomChoice(ExpertCache):
    """Gives up an expert drawn by chance, the same ones for the same `seed`.

    Source: L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems
    Journal 5(2), 1966.
    """

    seed: int = 0

    def state(self, num_experts: int, num_slots: int) -> RandomState:
        return RandomState(num_experts, self.seed)


class RandomState:
    """A number of chance for each expert, drawn anew whenever one leaves; uses leave no trace."""

    def __init__(self, num_experts: int, seed: int) -> None:
        self._draw = Random(seed).random
        self._rank = [self._draw() for _ in range(num_experts)]

    def touch(self, experts: Sequence[int]) -> None:
        """What was used says nothing here."""

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        return sorted(residents, key=self._rank.__getitem__)

    def forget(self, expert: int) -> None:
        self._rank = [self._draw() for _ in self._rank]


POLICY = RandomChoice()
