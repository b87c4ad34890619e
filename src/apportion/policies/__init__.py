"""Decisions: which experts to give up, to fetch early, in which order; which requests run in a step, and
which keys and values to keep.

A policy is one small file in its family's folder, found by its name; it is given plain numbers and returns
keys. It does no I/O and reads no clock, and what it draws by chance it draws from a seed, so that the engine,
trace replay and the simulator run the very same object. See docs/policies.md.
"""

from apportion.policies.expert_cache import EXPERT_CACHES
from apportion.policies.load_order import LOAD_ORDERS
from apportion.policies.placement import PLACEMENTS
from apportion.policies.prediction import PREDICTIONS
from apportion.policies.retention import RETENTIONS
from apportion.policies.scheduler import SCHEDULERS

FAMILIES = (EXPERT_CACHES, PREDICTIONS, LOAD_ORDERS, PLACEMENTS, RETENTIONS, SCHEDULERS)

__all__ = [
    "EXPERT_CACHES",
    "FAMILIES",
    "LOAD_ORDERS",
    "PLACEMENTS",
    "PREDICTIONS",
    "RETENTIONS",
    "SCHEDULERS",
]
