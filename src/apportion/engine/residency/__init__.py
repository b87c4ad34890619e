"""Which weights are in memory, and how the others get there: expert slots, streamed layers, embedding rows."""

from apportion.engine.residency.counters import Counters
from apportion.engine.residency.residency import Residency

__all__ = ["Counters", "Residency"]
