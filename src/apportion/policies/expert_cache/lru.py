"""Least recently used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.policies.expert_cache import ExpertCache


@dataclass(frozen=True, slots=True)
class Lru(ExpertCache):
    """Gives up the expert whose last use is longest ago.

    Source: A. Eliseev, D. Mazur, "Fast Inference of Mixture-of-Experts Language Models with Offloading",
    arXiv:2312.17238 (2023), for experts.
    """

    def state(self, num_experts: int, num_slots: int) -> LruState:
        return LruState(num_experts)


class LruState:
    """When each expert was last used; below 0: never."""

    def __init__(self, num_experts: int) -> None:
        self._last_use = list(range(-num_experts, 0))
        self._clock = 0

    def touch(self, experts: Sequence[int]) -> None:
        for expert in reversed(experts):
            self._clock += 1
            self._last_use[expert] = self._clock

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        return sorted(residents, key=self._last_use.__getitem__)

    def forget(self, expert: int) -> None:
        """It was used when it was used."""


POLICY = Lru()
