"""Memory of weights, and of the keys and values that a run of layers reads and appends to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from apportion import _native
from apportion.formats.block import Bytes
from apportion.kernels.ops import Cache

ALIGNMENT = 64  # a cache line, and the widest vector registers


class Region:
    """Uninitialized memory, obtained once and handed out piece by piece; in huge pages where there are any.

    Pages that nobody writes take no memory.
    """

    def __init__(self, nbytes: int) -> None:
        self._rest: Bytes = _native.allocate(nbytes)

    @staticmethod
    def room(nbytes: int) -> int:
        """What a piece of so many bytes takes."""
        return -(-nbytes // ALIGNMENT) * ALIGNMENT

    def take(self, nbytes: int) -> Bytes:
        """The next piece, aligned to 64 bytes.

        Raises:
            ValueError: less is left.
        """
        room = self.room(nbytes)
        if room > self._rest.size:
            raise ValueError(f"{room} bytes of a region are wanted, {self._rest.size} are left")
        piece, self._rest = self._rest[:nbytes], self._rest[room:]
        return piece


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
