"""Arenas: memory obtained once under a lease and divided into equal slots, which weights are read into.

The memory is aligned to huge pages, in huge pages where the system gives them, and written once before it is
handed out: no page fault comes later, and what the ledger says is what the process has. A slot is a whole
number of pages, so that direct reads land in it as they are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from apportion import _native
from apportion.core.claim import Claim, Kind, Tier
from apportion.core.errors import DoesNotFit
from apportion.core.units import format_bytes
from apportion.formats.block import Bytes
from apportion.memory.ledger import Ledger

PAGE_NBYTES = 4096


@dataclass(frozen=True, slots=True)
class Slot:
    """One use of a slot. `generation` tells it from earlier and later uses of the same room."""

    index: int
    generation: int


class Arena:
    """Equal slots in one piece of memory. Safe to use from several threads.

    Args:
        ledger: what the memory is leased from, as bytes of RAM.
        kind: what it is for.
        slot_nbytes: room per slot; rounded up to whole pages.
        num_slots: at least one.

    Raises:
        DoesNotFit: the ledger has not enough left, or the system gives no more memory.
    """

    def __init__(self, ledger: Ledger, kind: Kind, slot_nbytes: int, num_slots: int) -> None:
        self.kind = kind
        self.slot_nbytes = -(-slot_nbytes // PAGE_NBYTES) * PAGE_NBYTES
        nbytes = self.slot_nbytes * num_slots
        self._resizing = threading.Lock()
        self._given_back = 0
        self._lease = ledger.reserve(Claim(kind, nbytes))
        try:
            self._native = _native.Arena(self.slot_nbytes, num_slots)
        except MemoryError as error:
            self._lease.release()
            raise _refused(kind, nbytes) from error
        except BaseException:
            self._lease.release()
            raise

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it has now; exactly what its lease holds."""
        return self._lease.nbytes()

    @property
    def num_slots(self) -> int:
        """Slots that have memory."""
        return self._native.num_slots

    @property
    def num_free(self) -> int:
        """Slots that have memory and are not taken."""
        return self._native.num_free

    @property
    def native(self) -> _native.Arena:
        """What the reader reads into."""
        return self._native

    def take(self) -> Slot | None:
        """A free slot, or None when there is none. Its bytes are whatever was there before."""
        taken = self._native.take()
        return None if taken is None else Slot(*taken)

    def release(self, slot: Slot) -> None:
        """Let go of a slot. From here on `slot` names nothing, also when its room is taken again.

        Raises:
            ValueError: it was released before.
        """
        if not self._native.release(slot.index, slot.generation):
            raise ValueError("the slot was released")

    def view(self, slot: Slot) -> Bytes:
        """The slot's bytes, [slot_nbytes] uint8, without a copy. While the array lives the arena cannot be
        closed; it does not keep the slot from being released and filled anew.

        Raises:
            ValueError: the slot was released.
        """
        return self._native.view(slot.index, slot.generation)

    def shrink(self, num_slots: int) -> int:
        """Give the memory of up to `num_slots` free slots back to the system and to the ledger; how many it
        were.
        """
        with self._resizing:
            given = self._native.shrink(num_slots)
            self._given_back += given
            self._lease.rearrange(Claim(self.kind, self.nbytes - given * self.slot_nbytes))
        return given

    def grow(self, num_slots: int) -> int:
        """Obtain memory again for up to `num_slots` slots that were given back; how many got it from the
        system.

        Raises:
            DoesNotFit: the ledger has not enough left for all of them; nothing changed.
        """
        with self._resizing:
            before, wanted = self.nbytes, min(num_slots, self._given_back)
            self._lease.rearrange(Claim(self.kind, before + wanted * self.slot_nbytes))
            grown = self._native.grow(wanted)
            self._given_back -= grown
            self._lease.rearrange(Claim(self.kind, before + grown * self.slot_nbytes))
        return grown

    def close(self) -> None:
        """Give all memory back to the system, then to the ledger. Closing twice is allowed.

        Raises:
            BufferError: an array or a read still uses the memory; nothing changed.
        """
        if users := self._native.num_users:
            raise BufferError(f"{users} arrays or reads still use the arena")
        self._native.close()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refused(kind: Kind, nbytes: int) -> DoesNotFit:
    return DoesNotFit(
        f"the system gives no {format_bytes(nbytes)} for {kind}",
        "its memory is used up, although the budget has room",
        "lower the budget, or end other programs",
        tier=str(Tier.RAM),
        need=nbytes,
    )
