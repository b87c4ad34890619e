"""What a residency has counted since it was made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Experts that steps asked for, and waiting for the disk.

    Attributes:
        hits, misses: of decode: experts of one token that were found in their slots, and those that were
            read for it.
        prefill_hits, prefill_misses: the same of several tokens at once, each expert counted once a pass.
        stall_s: seconds in which nothing was computed because a read was not complete.
        layer_reads: streamed layers that were read.
    """

    hits: int = 0
    misses: int = 0
    prefill_hits: int = 0
    prefill_misses: int = 0
    stall_s: float = 0.0
    layer_reads: int = 0

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
