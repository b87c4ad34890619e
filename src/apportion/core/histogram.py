"""How often values fell between which edges: a few counts, however many values there were."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Seconds, from one token of a small model to a prompt whose weights come from a slow disk.
SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0),
)
TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, *(1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5))


class Histogram:
    """Counts of values. One thread adds; others may read meanwhile, and see each value now or next time.

    Args:
        edges: ascending; a value counts at the first edge that is not below it.

    Attributes:
        counts: one for each edge, and one for what lies beyond the last.
        total: the sum of all values.
    """

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: Sequence[float]) -> None:
        assert list(edges) == sorted(set(edges)), edges
        self.edges = tuple(edges)
        self.counts = [0] * (len(self.edges) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """A value that came so many times."""
        self.counts[bisect_left(self.edges, value)] += times
        self.total += value * times

    @property
    def num_values(self) -> int:
        return sum(self.counts)
