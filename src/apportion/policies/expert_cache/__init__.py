"""Expert caches: which expert of a layer gives up its slot when another one needs it. One file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from apportion.policies.family import Policy, PolicyFamily


class CacheState(Protocol):
    """What a policy remembers of one layer.

    A step calls `touch` once, then `leaving` if an expert is missing and finds no empty slot, and `forget`
    for each expert that leaves. `leaving` may be asked before that `touch`, too: using some does not change
    the order of the others.
    """

    def touch(self, experts: Sequence[int]) -> None:
        """A step uses these, whether they are resident or not. The first one, a router's strongest choice,
        counts as used last.
        """

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        """`residents` in the order in which they are to be given up, whatever the order in which they are
        named. Those that a step needs are passed over.
        """

    def forget(self, expert: int) -> None:
        """It is resident no more: it was given up, its slot was taken away, or its read failed."""


class ExpertCache(Policy):
    """Decides which expert to give up. Every layer has a state, and slots, of its own."""

    budget: ClassVar[str] = "expert slots"

    def state(self, num_experts: int, num_slots: int) -> CacheState:
        """A layer's state at the start, when nothing was used yet.

        Raises:
            UsageError: the policy cannot run without knowing the future.
        """
        raise NotImplementedError

    def knowing(self, future: Sequence[Sequence[int]]) -> ExpertCache:
        """This policy for a layer whose steps will use these experts; only an oracle makes use of it."""
        return self


EXPERT_CACHES = PolicyFamily("expert cache", __name__, ExpertCache, "lru")
