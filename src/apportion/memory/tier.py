"""What the layers above know of a tier: room for units, slot by slot, and a way into it from the tier below.

`RamSlots` is RAM over disk: slots of an arena, which a reader fills from files. A tier of another kind of
memory is another class with these methods; who caches experts or streams layers does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from apportion._native import ExpertTable, LoadTimes
from apportion.core.claim import Kind
from apportion.formats.block import Bytes
from apportion.memory.arena import Arena, Slot
from apportion.memory.ledger import Ledger
from apportion.memory.reader import Part, Reader, Ticket
from apportion.memory.shelf import ExpertPlaces, RamShelf, Shelf


class Slots(Protocol):
    """Equal slots in one tier, leased as one. A unit comes into a slot by `fetch` and is there once it was
    waited for; a slot is given up by `release`, and needs no way back: weights do not change.
    """

    @property
    def slot_nbytes(self) -> int:
        """Room of a slot."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tier that are leased now."""

    def take(self) -> Slot | None:
        """A free slot, or None when there is none."""

    def release(self, slot: Slot) -> None:
        """Let go of a slot that nothing is fetched into."""

    def view(self, slot: Slot) -> Bytes:
        """Where computing finds the slot's bytes."""

    def fetch(self, slot: Slot, parts: Sequence[Part]) -> Ticket:
        """Begin to bring `parts` of the tier below into a slot; returns at once."""

    def wait(self, ticket: Ticket) -> None:
        """Return when they are in the slot; raises what keeps them from getting there."""

    def settled(self, ticket: Ticket) -> bool:
        """Whether nothing writes to its slot any more; a fetch that failed may not be over yet."""

    def shelf(self, table: ExpertTable, times: LoadTimes, experts: Sequence[ExpertPlaces]) -> Shelf:
        """A layer's experts, which come into slots of the tier and go."""

    def shrink(self, num_slots: int) -> int:
        """Give up to so many free slots back to the tier; how many it were."""

    def close(self) -> None:
        """Give everything back."""


# Slots for a kind of claim: bytes of each, and how many.
MakeSlots: TypeAlias = Callable[[Kind, int, int], Slots]


class RamSlots:
    """`Slots` of RAM over disk. `Arena` and `Reader` say what its methods do and raise.

    Args:
        ledger: pays for the slots.
        reader: has the files open that parts name, and outlives the slots.

    Raises:
        DoesNotFit: the ledger has not enough left, or the system gives no more memory.
    """

    def __init__(self, ledger: Ledger, reader: Reader, kind: Kind, slot_nbytes: int, num_slots: int) -> None:
        self._arena = arena = Arena(ledger, kind, slot_nbytes, num_slots)
        self.slot_nbytes = arena.slot_nbytes
        self.take, self.release, self.view = arena.take, arena.release, arena.view
        self.fetch, self.wait, self.settled = partial(reader.submit, arena), reader.wait, reader.settled
        self.shelf = partial(RamShelf, arena, reader)
        self.shrink, self.close = arena.shrink, arena.close

    @property
    def nbytes(self) -> int:
        return self._arena.nbytes
