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
        return RandomState(self.seed)


class RandomState:
    """A generator of random numbers; uses leave no trace."""

    def __init__(self, seed: int) -> None:
        self._draw = Random(seed).random

    def touch(self, experts: Sequence[int]) -> None:
        """What was used says nothing here."""

    def victim(self, residents: Sequence[int]) -> int:
        return sorted(residents)[int(self._draw() * len(residents))]

    def forget(self, expert: int) -> None:
        """There is nothing to forget."""


POLICY = RandomChoice()
