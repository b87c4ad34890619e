"""Who caches experts and streams layers knows a tier by its methods alone: another kind of memory will do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, logits_of, whole
from tests.models.tiny import tiny_gguf

from apportion.core.claim import Claim, Kind
from apportion.engine.residency import residency
from apportion.formats.block import Bytes
from apportion.memory import Ledger, Part, Priority, Reader, Slot, Ticket


class Copies:
    """`memory.Slots` over bytes that are in memory already: nothing is read, a fetch is done at once."""

    fetched = 0

    def __init__(self, ledger: Ledger, reader: Reader, kind: Kind, slot_nbytes: int, num_slots: int) -> None:
        self.slot_nbytes = slot_nbytes
        self._below = np.fromfile(reader.file(0).path, np.uint8)
        self._lease = ledger.reserve(Claim(kind, slot_nbytes * num_slots))
        self._memory = np.empty((num_slots, slot_nbytes), np.uint8)
        self._free = list(range(num_slots))

    @property
    def nbytes(self) -> int:
        return self._lease.nbytes()

    def take(self) -> Slot | None:
        return Slot(self._free.pop(), 0) if self._free else None

    def release(self, slot: Slot) -> None:
        self._free.append(slot.index)

    def view(self, slot: Slot) -> Bytes:
        return self._memory[slot.index]

    def fetch(self, slot: Slot, parts: Sequence[Part], priority: Priority = "demand") -> Ticket:
        for part in parts:
            there = self._below[part.offset : part.offset + part.nbytes]
            self._memory[slot.index, part.first : part.first + part.nbytes] = there
        Copies.fetched += 1
        return Ticket(Copies.fetched)

    def wait(self, ticket: Ticket) -> None:
        pass

    def wait_any(self, tickets: Sequence[Ticket]) -> Ticket | None:
        return tickets[0]

    def ready(self, ticket: Ticket) -> bool:
        return True

    def promote(self, ticket: Ticket) -> bool:
        return False

    def settled(self, ticket: Ticket) -> bool:
        return True

    def keep_only(self, slots: Collection[Slot]) -> None:
        self._free = sorted(set(range(len(self._memory))) - {slot.index for slot in slots})

    def shrink(self, num_slots: int) -> int:
        return 0

    def close(self) -> None:
        self._lease.release()


@pytest.mark.parametrize("name", ["olmoe", "llama"])
def test_experts_layers_and_rows_come_from_another_tier(
    load: Load, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "RamSlots", Copies)
    path = tiny_gguf(name, tmp_path, block_format="q8_0")
    streamed = load(path, 3, range(3), embedding="rows")
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(path)))
    assert streamed.residency.reader.stats().num_reads == 0
    assert Copies.fetched > 0
