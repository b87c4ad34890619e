"""Memory for blocks on their way to the disk: a bounded number of places for whole records."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Staging:
    """`num_slots` places of `slot_nbytes` bytes, each beginning at a page, as direct writes need it. For one
    thread at a time.
    """

    def __init__(self, slot_nbytes: int, num_slots: int) -> None:
        self.slot_nbytes = slot_nbytes
        self.num_slots = num_slots
        # Pages that were never written take no memory: a store that is never written to has none.
        self._memory = np.frombuffer(mmap.mmap(-1, slot_nbytes * num_slots), np.uint8)
        self._free = list(range(num_slots - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self) -> int | None:
        """A place, or None when all are taken."""
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        assert slot not in self._free, slot
        self._free.append(slot)

    def view(self, slot: int) -> Bytes:
        """The place's bytes."""
        return self._memory[slot * self.slot_nbytes : (slot + 1) * self.slot_nbytes]
