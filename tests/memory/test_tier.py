from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from apportion.core.claim import Kind, Tier
from apportion.core.errors import DoesNotFit, Truncated
from apportion.core.spacing import LARGE, STEP
from apportion.memory import Ledger, RamSlots, Reader, ReadFault, Slots, parts_in_a_row, room_in_a_row

ROOM = 8192


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(range(250)) * 200)
    return path


def ledger() -> Ledger:
    return Ledger({Tier.RAM: 4 * ROOM})


def test_a_unit_comes_from_the_disk_into_a_slot(path: Path) -> None:
    account = ledger()
    with Reader() as reader:
        tier: Slots = RamSlots(account, reader, Kind.EXPERT_SLOTS, ROOM, 2)
        assert (tier.slot_nbytes, tier.nbytes) == (ROOM, 2 * ROOM)
        parts = parts_in_a_row([(reader.open(path), 5000, 3000)])
        slot = tier.take()
        assert slot is not None
        tier.wait(tier.fetch(slot, parts))
        assert bytes(tier.view(slot)[parts[0].first :][:3000]) == path.read_bytes()[5000:8000]
        tier.release(slot)
        assert tier.shrink(1) == 1
        assert account.account().tiers[Tier.RAM].used == tier.nbytes == ROOM
        tier.close()
    assert account.account().tiers[Tier.RAM].used == 0


def test_what_keeps_a_unit_away_is_told_and_the_slot_is_settled(path: Path) -> None:
    with Reader(faults=[ReadFault(0, delay_s=0.05)]) as reader:
        tier: Slots = RamSlots(ledger(), reader, Kind.EXPERT_SLOTS, ROOM, 1)
        file = reader.open(path)
        slot = tier.take()
        assert slot is not None
        assert tier.take() is None
        ticket = tier.fetch(slot, parts_in_a_row([(file, 41_000, 4000)]))
        path.write_bytes(b"short")
        with pytest.raises(Truncated):
            tier.wait(ticket)
        assert tier.settled(ticket)
        tier.release(slot)
        tier.close()


def test_slots_that_do_not_fit_are_refused() -> None:
    with Reader() as reader, pytest.raises(DoesNotFit):
        RamSlots(ledger(), reader, Kind.IO_BUFFERS, ROOM, 5)


def test_large_parts_of_a_slot_lie_whole_steps_apart() -> None:
    nbytes = LARGE + 4096
    stretches = [(832 + number * nbytes, nbytes) for number in range(3)]
    parts = parts_in_a_row([(0, *stretch) for stretch in stretches])
    assert all(later.place - one.place >= one.room for one, later in pairwise(parts))
    assert all((later.first - one.first) % STEP == 0 for one, later in pairwise(parts))
    assert parts[-1].place + parts[-1].room <= room_in_a_row(stretches)
