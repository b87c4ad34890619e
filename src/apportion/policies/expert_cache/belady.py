"""The oracle: no policy that reads on demand has more hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from apportion.core.errors import UsageError
from apportion.policies.expert_cache import ExpertCache

NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Belady(ExpertCache):
    """Gives up the expert whose next use is farthest away, which replay alone can tell.

    Source: L. A. Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems
    Journal 5(2), 1966; optimal: R. L. Mattson et al., IBM Systems Journal 9(2), 1970.
    """

    oracle: ClassVar[bool] = True
    future: Sequence[Sequence[int]] | None = field(default=None, init=False, repr=False)

    def knowing(self, future: Sequence[Sequence[int]]) -> Belady:
        told = replace(self)
        object.__setattr__(told, "future", future)
        return told

    def state(self, num_experts: int, num_slots: int) -> BeladyState:
        if self.future is None:
            raise UsageError(
                "the expert cache belady runs in replay alone",
                "it decides by the routes to come, which a model that runs does not know",
                "choose lru or lfu_aged; `apportion trace replay` compares them with belady",
            )
        return BeladyState(num_experts, self.future)


class BeladyState:
    """For each expert the steps that will use it, nearest last."""

    def __init__(self, num_experts: int, future: Sequence[Sequence[int]]) -> None:
        self._uses: list[list[int]] = [[NEVER] for _ in range(num_experts)]
        for step in range(len(future) - 1, -1, -1):
            for expert in future[step]:
                self._uses[expert].append(step)
        self._next_use = [uses[-1] for uses in self._uses]

    def touch(self, experts: Sequence[int]) -> None:
        for expert in experts:
            self._uses[expert].pop()
            self._next_use[expert] = self._uses[expert][-1]

    def leaving(self, residents: Sequence[int]) -> Sequence[int]:
        return sorted(sorted(residents), key=self._next_use.__getitem__, reverse=True)

    def forget(self, expert: int) -> None:
        """Its next use stays when it is."""


POLICY = Belady()
