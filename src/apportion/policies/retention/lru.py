"""Least recently used."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.policies.retention import KeptView, Retention, RetentionState


@dataclass(frozen=True, slots=True)
class Lru(Retention):
    """Gives up the block whose last use is longest ago.

    Source: L. Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs",
    arXiv:2312.07104 (2023): its radix tree gives up the least recently used leaf.
    """

    def state(self) -> RetentionState:
        return LruState()


class LruState(RetentionState):
    """Nothing: when it was used is told with the block."""

    def worth(self, kept: KeptView, now_s: float) -> float:
        return kept.last_use_s


POLICY = Lru()
