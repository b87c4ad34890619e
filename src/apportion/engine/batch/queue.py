"""Requests of a batch in the order of their groups: one computes the prefix, and then the others may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Leader(Protocol):
    """A request that has begun."""

    @property
    def has_read_prompt(self) -> bool:
        """Whether others can find what it read, or never will."""


@dataclass(slots=True)
class Waiting(Generic[T]):
    """What of a group has not begun, the next one last; `leader` is what began first."""

    members: list[T]
    leader: Leader | None = None

    @property
    def is_ready(self) -> bool:
        return self.leader is None or self.leader.has_read_prompt


class GroupQueue(Generic[T]):
    """Items of groups; the second of a group comes only when its first has read its prompt, and a group that
    waits for that is not put at risk by others.
    """

    def __init__(self) -> None:
        self._groups: list[Waiting[T]] = []

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups)

    def add(self, groups: Iterable[Sequence[T]]) -> None:
        """Groups that come after those that are there."""
        self._groups += [Waiting(list(reversed(group))) for group in groups if group]

    def pop(self, has_room: Callable[[T], bool]) -> tuple[T, Waiting[T]] | None:
        """The next item that may begin, and its group, whose leader it becomes if that has none.

        Args:
            has_room: whether an item could begin and nothing that is kept would have to give way: what the
                first of a group has read is kept for the others until they begin.
        """
        for place, group in enumerate(self._groups):
            if group.is_ready:
                if place and group.leader is None and not has_room(group.members[-1]):
                    return None
                if len(group.members) == 1:
                    del self._groups[place]
                return group.members.pop(), group
        return None
