"""Retention: what the keys and values of finished and paused requests are worth, and which go first. One file
each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from apportion.policies.family import Policy, PolicyFamily

Rank: TypeAlias = tuple[bool, int, float, int, int]


@dataclass(frozen=True, slots=True)
class KeptView:
    """A block of keys and values that no request uses now.

    Attributes:
        key: which one: a number that grows with every block that comes.
        num_tokens: its positions, and `num_before` those of the prefix that it continues.
        nbytes: of memory that giving it up frees.
        last_use_s, num_uses: when a request used it last, and how many did.
        recompute_s: to compute it again; `reload_s` to read it back, or None where it is not stored.
        pinned_until_s: until when a caller, or a paused tool call, asks for it; 0: no one does.
        priority: larger stays longer.
    """

    key: int
    num_tokens: int
    num_before: int
    nbytes: int
    last_use_s: float
    num_uses: int
    recompute_s: float
    reload_s: float | None = None
    pinned_until_s: float = 0.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """A request that ended in a tool call and will be continued.

    Attributes:
        tool: its name; context_tokens: what the follow-up would have to compute again.
        recompute_s: how long that takes.
        mean_wait_s: how long follow-ups without their context waited before they ran, on average.
    """

    tool: str
    context_tokens: int
    recompute_s: float
    mean_wait_s: float


class RetentionState:
    """What a policy remembers."""

    def worth(self, kept: KeptView, now_s: float) -> float:
        """What keeping it is worth: whatever is worth least goes first. Only the order counts."""
        raise NotImplementedError

    def rank(self, kept: KeptView, now_s: float) -> Rank:
        """Its place in the order of going, smallest first, the same in every policy but for the worth.

        What is pinned goes after everything else, then what has a higher priority; of blocks worth the same
        the deeper goes first, then the one that was kept earlier. Nothing that is kept may continue it.
        """
        pinned = kept.pinned_until_s > now_s
        return pinned, kept.priority, self.worth(kept, now_s), -kept.num_before, kept.key

    def time_to_live(self, pause: Pause) -> float:
        """For how many seconds the context of a paused request is pinned."""
        return 0.0

    def tool_took(self, tool: str, seconds: float) -> None:
        """A tool call that was paused for has come back."""


class Retention(Policy):
    """Decides which kept blocks go first. Every engine has a state of its own."""

    budget: ClassVar[str] = "KV"

    def state(self) -> RetentionState:
        """Before anything was kept."""
        raise NotImplementedError


RETENTIONS = PolicyFamily("retention", __name__, Retention, "lru")
