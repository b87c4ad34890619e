"""What a run of a model moves from the disk, by the residency's own counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apportion.bench.limits import Rates

if TYPE_CHECKING:
    from apportion.engine.residency import Residency
    from apportion.models.units import ModelUnits


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment, or what they grew by."""

    misses: int
    nbytes: int
    stall_s: float
    reading_s: float

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            self.misses - before.misses,
            self.nbytes - before.nbytes,
            self.stall_s - before.stall_s,
            self.reading_s - before.reading_s,
        )


@dataclass(slots=True)
class Traffic:
    """What the repetitions of one line moved."""

    hit_rate: list[float] = field(default_factory=list)
    disk_bytes_per_token: list[float] = field(default_factory=list)
    disk_GBps: list[float] = field(default_factory=list)  # noqa: N815
    stall_share: list[float] = field(default_factory=list)
    reading_GBps: list[float] = field(default_factory=list)  # noqa: N815

    def add(self, grown: Counts, tokens: int, seconds: float, experts_per_token: int | None) -> None:
        """One repetition.

        Args:
            experts_per_token: of all layers together; None where a hit rate makes no sense.
        """
        if experts_per_token:
            self.hit_rate.append(1 - grown.misses / (tokens * experts_per_token))
        self.disk_bytes_per_token.append(grown.nbytes / tokens)
        self.disk_GBps.append(grown.nbytes / seconds / 1e9)
        self.stall_share.append(grown.stall_s / seconds)
        if grown.nbytes and grown.reading_s:  # what is still on its way has no rate
            self.reading_GBps.append(grown.nbytes / grown.reading_s / 1e9)


class Meter:
    """Reads a residency's counters.

    Attributes:
        experts_per_token: that a token is routed to in all layers together, those whose experts all stay in
            memory among them; 0 for a model without experts.
    """

    def __init__(self, residency: Residency, units: ModelUnits) -> None:
        self._residency = residency
        routed = sum(1 for layer in units.layers if layer.num_experts)
        self.experts_per_token = routed * residency.experts_per_token

    def read(self) -> Counts:
        counters, stats = self._residency.counters, self._residency.reader.stats()
        return Counts(counters.misses, stats.nbytes_read, counters.stall_s, stats.reading_s)


def rates_of(values: list[float]) -> Rates | None:
    """None where nothing was counted."""
    return Rates.of(values) if values else None
