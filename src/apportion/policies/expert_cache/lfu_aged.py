"""Least frequently used, where uses lose their weight with time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core.errors import UsageError
from apportion.policies.expert_cache import ExpertCache

SHORTEST = 0.1
LARGEST = 1e100  # weights grow up to this before all are scaled down


@dataclass(frozen=True, slots=True)
class LfuAged(ExpertCache):
    """Gives up the expert with the least uses, each of which counts half as much every `half_life` steps.

    A short half-life comes close to least recently used, an endless one is least frequently used.

    Source: D. Lee et al., "LRFU: A Spectrum of Policies that Subsumes the Least Recently Used and Least
    Frequently Used Policies", IEEE Transactions on Computers 50(12), 2001 (its lambda is 1 / half_life).
    """

    half_life: float = 16.0

    def __post_init__(self) -> None:
        if not self.half_life >= SHORTEST:
            raise UsageError(f"half_life is at least {SHORTEST} steps", half_life=self.half_life)

    def state(self, num_experts: int, num_slots: int) -> LfuAgedState:
        return LfuAgedState(num_experts, 2 ** (1 / self.half_life))


class LfuAgedState:
    """Each expert's weighted uses. Instead of all weights shrinking, that of a new use grows."""

    def __init__(self, num_experts: int, growth: float) -> None:
        self._uses = [0.0] * num_experts
        self._weight = 1.0
        self._growth = growth

    def touch(self, experts: Sequence[int]) -> None:
        self._weight *= self._growth
        if self._weight > LARGEST:
            self._uses = [uses / self._weight for uses in self._uses]
            self._weight = 1.0
        for expert in experts:
            self._uses[expert] += self._weight

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        return sorted(sorted(residents), key=self._uses.__getitem__)

    def forget(self, expert: int) -> None:
        """Its uses fade by themselves."""


POLICY = LfuAged()
