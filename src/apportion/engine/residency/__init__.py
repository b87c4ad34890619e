"""Which weights are in memory, and how the others get there."""

from apportion.engine.residency.counters import Counters
from apportion.engine.residency.residency import Residency

__all__ = ["Counters", "Residency"]
