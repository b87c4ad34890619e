"""The keys and values that a run of layers reads and appends to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from apportion import _native
from apportion.kernels.ops import Cache


class KvMemory:
    """Per layer, keys [G, C, D] and values [G, C, Dv], which may be views of the keys."""

    def __init__(self, keys: Sequence[Cache], values: Sequence[Cache]) -> None:
        self.keys = tuple(keys)
        self.values = tuple(values)

    @cached_property
    def native(self) -> _native.KvMemory:
        """The same for the core, which checks the arrays once and keeps them alive.

        Raises:
            ValueError: shapes or types contradict each other.
        """
        return _native.KvMemory(self.keys, self.values)
