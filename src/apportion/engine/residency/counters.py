"""What a residency has counted since it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from apportion._native import LoadTimes
from apportion.core.histogram import Histogram

LOAD_S = (*(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5), *(1.0, 5.0, 30.0))


@dataclass(slots=True)
class Counters:
    """Experts that steps asked for, and waiting for the disk.

    Attributes:
        hits, misses: of decode: experts of one token that were found in their slots, and those that were
            read for it.
        prefill_hits, prefill_misses: the same of several tokens at once, each expert counted once a pass.
        layer_stall_s, row_stall_s: seconds in which nothing was computed because a read of a streamed layer,
            or of rows of the embedding was not complete.
        layer_reads: streamed layers that were read.
        expert_times: of reads of experts, which the core waits for.
    """

    hits: int = 0
    misses: int = 0
    prefill_hits: int = 0
    prefill_misses: int = 0
    layer_stall_s: float = 0.0
    row_stall_s: float = 0.0
    layer_reads: int = 0
    expert_times: LoadTimes = field(default_factory=lambda: LoadTimes(LOAD_S))

    @property
    def expert_stall_s(self) -> float:
        """Seconds in which nothing was computed because a read of experts was not complete."""
        return self.expert_times.stall_s

    @property
    def load_s(self) -> Histogram:
        """From when an expert that a token waits for was asked for to when it could be computed with."""
        found = Histogram(LOAD_S)
        found.total, found.counts = self.expert_times.loads()
        return found

    @property
    def stall_s(self) -> float:
        """Seconds in which nothing was computed because a read was not complete."""
        return self.expert_stall_s + self.layer_stall_s + self.row_stall_s

    @property
    def hit_rate(self) -> float:
        """Share of hits in decode; 1 where nothing was asked for."""
        total = self.hits + self.misses
        return self.hits / total if total else 1.0

    def count(self, num_tokens: int, hits: int, misses: int) -> None:
        """A layer's experts of so many tokens."""
        if num_tokens == 1:
            self.hits += hits
            self.misses += misses
        else:
            self.prefill_hits += hits
            self.prefill_misses += misses


class ExpertUses(NamedTuple):
    """How often each of a layer's experts was found in its slot, and how often it was read because somebody
    asked for it: of decode for every token, of several tokens at once for every pass.
    """

    hits: Sequence[int]
    misses: Sequence[int]
