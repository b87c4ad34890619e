"""Making room: whole segments go, and what in them is worth it is written once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apportion.core.clock import Clock
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.store.shelf import Entry, Shelf
from apportion.engine.store.space import Segment
from apportion.policies.retention import KeptView, Rank, RetentionState

_LOWEST = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Victims:
    """Says which segment goes, and what of it stays. It moves nothing itself."""

    shelf: Shelf
    retention: RetentionState
    cost: BlockCost
    clock: Clock

    def choose(self, segments: Iterable[Segment]) -> Segment | None:
        """One without blocks, or else the one whose middle block is worth least."""
        now = self.clock.now()
        return min(segments, key=lambda segment: (self._middle(segment, now), segment.number), default=None)

    def worth_moving(self, segment: Segment, room_nbytes: int) -> list[Entry]:
        """Those that were read since they were written, the most valuable first, and at most half of what the
        segment frees.
        """
        now = self.clock.now()
        read = [entry for entry in self.shelf.in_segment(segment.number) if entry.num_uses]
        read = [entry for entry in read if not self.shelf.is_orphan(entry)]
        read.sort(key=lambda entry: self._rank(entry, now), reverse=True)
        room_nbytes = min(room_nbytes, segment.nbytes // 2)
        return read[: room_nbytes // read[0].nbytes] if read else []

    def _middle(self, segment: Segment, now: float) -> tuple[int, Rank | None]:
        ranks = sorted(self._rank(entry, now) for entry in self.shelf.in_segment(segment.number))
        return (1, ranks[len(ranks) // 2]) if ranks else (0, None)

    def _rank(self, entry: Entry, now: float) -> Rank:
        if self.shelf.is_orphan(entry):
            return (False, _LOWEST, 0.0, -entry.num_before, entry.number)
        view = KeptView(
            key=entry.number,
            num_tokens=entry.num_tokens,
            num_before=entry.num_before,
            nbytes=entry.nbytes,
            last_use_s=entry.last_use_s,
            num_uses=entry.num_uses + 1,
            recompute_s=self.cost.recompute_s(entry.num_before, entry.num_tokens),
        )
        return self.retention.rank(view, now)
