"""Memory of weights."""

from __future__ import annotations

from apportion import _native
from apportion.core.spacing import spaced
from apportion.formats.block import Bytes

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
        return spaced(-(-nbytes // ALIGNMENT) * ALIGNMENT)

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
