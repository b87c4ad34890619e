"""Least frequently used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.policies.expert_cache import ExpertCache

ONE_USE = 1 << 40  # in a rank; the bits below it say when the last use was


@dataclass(frozen=True, slots=True)
class Lfu(ExpertCache):
    """Gives up the expert that was used least often, among equals the one whose last use is longest ago.

    `while_resident` counts only the uses since an expert came; otherwise what was used before it left counts
    too.

    Source: L. Breslau et al., "Web Caching and Zipf-like Distributions", INFOCOM 1999 (perfect and in-cache
    LFU).
    """

    while_resident: bool = False

    def state(self, num_experts: int, num_slots: int) -> LfuState:
        return LfuState(num_experts, self.while_resident)


class LfuState:
    """Uses and last use of each expert, joined in one number so that the least is found in one pass."""

    def __init__(self, num_experts: int, while_resident: bool) -> None:
        self._uses = [0] * num_experts
        self._rank = list(range(-num_experts, 0))
        self._clock = 0
        self._while_resident = while_resident

    def touch(self, experts: Sequence[int]) -> None:
        for expert in reversed(experts):
            self._clock += 1
            self._uses[expert] += 1
            self._rank[expert] = self._uses[expert] * ONE_USE + self._clock

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        return sorted(residents, key=self._rank.__getitem__)

    def forget(self, expert: int) -> None:
        if self._while_resident:
            self._uses[expert] = 0
            self._rank[expert] = expert - len(self._rank)


POLICY = Lfu()
