"""Who caches experts and streams layers knows a tier by its methods alone: another kind of memory will do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, logits_of, whole
from tests.models.tiny import tiny_gguf

from apportion._native import ExpertTable, LoadTimes
from apportion.core.claim import Claim, Kind
from apportion.core.errors import DiskStuck
from apportion.engine.residency import residency
from apportion.formats.block import Bytes
from apportion.memory import ExpertPlaces, Ledger, Part, Reader, Shelf, Slot, Ticket


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

    def fetch(self, slot: Slot, parts: Sequence[Part]) -> Ticket:
        for part in parts:
            there = self._below[part.offset : part.offset + part.nbytes]
            self._memory[slot.index, part.first : part.first + part.nbytes] = there
        Copies.fetched += 1
        return Ticket(Copies.fetched)

    def wait(self, ticket: Ticket) -> None:
        pass

    def settled(self, ticket: Ticket) -> bool:
        return True

    def shelf(self, table: ExpertTable, times: LoadTimes, experts: Sequence[ExpertPlaces]) -> Shelf:
        return CopiedExperts(self, table, experts)

    def shrink(self, num_slots: int) -> int:
        return 0

    def close(self) -> None:
        self._lease.release()


class CopiedExperts:
    """`memory.Shelf` of copies: an expert is there as soon as it is started."""

    num_coming = 0
    has_failed = False

    def __init__(self, tier: Copies, table: ExpertTable, experts: Sequence[ExpertPlaces]) -> None:
        self._tier, self._table, self._experts = tier, table, experts
        self._slots: dict[int, Slot] = {}

    @property
    def num_held(self) -> int:
        return len(self._slots)

    def holds(self, expert: int, /) -> bool:
        return expert in self._slots

    is_ready = holds

    def here(self, without: Sequence[int], /) -> list[int]:
        return [expert for expert in self._slots if expert not in without]

    def ask(self, experts: Sequence[int], /) -> tuple[int, list[int]]:
        missing = [expert for expert in experts if expert not in self._slots]
        return len(experts) - len(missing), missing

    def let_go(self, num_slots: int, order: Sequence[int], /) -> None: ...

    def start(self, expert: int, prefetch: bool = False) -> bool:
        slot = self._tier.take()
        if slot is None:
            return False
        self._slots[expert] = slot
        self._tier.fetch(slot, self._experts[expert].parts)
        self._table.put(expert, self._tier.view(slot), *self._experts[expert].starts)
        return True

    def give_up(self, expert: int, /) -> None:
        self._table.clear(expert)
        self._tier.release(self._slots.pop(expert))

    def take_in(self) -> None: ...

    def wait(self) -> None: ...

    def failure(self) -> None:
        return None

    def settle(self) -> bool:
        return False

    def recover(self) -> list[int]:
        return []

    def uses(self) -> tuple[list[int], list[int]]:
        return [], []

    def close(self) -> None:
        self._slots.clear()


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


@pytest.mark.parametrize("tokens", [1, 20])
def test_where_failed_reads_hold_all_slots_a_run_ends_with_an_error(
    load: Load, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "RamSlots", Copies)
    monkeypatch.setattr(CopiedExperts, "start", lambda *_: False)
    monkeypatch.setattr(CopiedExperts, "settle", lambda _: True)
    model = load(tiny_gguf("olmoe", tmp_path, block_format="q8_0"), 3).model
    with pytest.raises(DiskStuck, match="no slot is free"):
        model.forward(np.arange(tokens, dtype=np.int32), model.new_cache(tokens))
