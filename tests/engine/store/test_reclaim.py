"""Making room when something is in the way: readers, damaged blocks, files that cannot be removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.store.house import Block, chain, config, get, put, store

from apportion.core.clock import VirtualClock
from apportion.core.errors import DiskFault
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.store import writer

OLD, NEW = chain(1, 20), chain(2, 30)


class Sticky(VirtualDisk):
    """Some files of it cannot be removed."""

    kept: tuple[str, ...] = ()

    def remove(self, path: str | Path) -> None:
        if Path(path).name in self.kept:
            raise DiskFault(f"cannot remove {path}", errno="EBUSY")
        super().remove(path)


def fill(kept: object, blocks: list[Block], clock: VirtualClock) -> None:
    for block in blocks:
        clock.advance(1.0)
        put(kept, block)  # type: ignore[arg-type]
    kept.flush()  # type: ignore[attr-defined]


def test_a_segment_that_is_being_read_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_RETIRE_S", 0.01)
    clock = VirtualClock()
    with store(VirtualDisk(), config(24), clock) as kept:
        fill(kept, OLD, clock)
        with kept._opened.files.borrow(1) as file:
            before = file.pread(1 << 20, 0)
            fill(kept, NEW, clock)
            assert file.pread(1 << 20, 0) == before
        assert kept.counters.lost == 0
        assert get(kept, NEW[-1])
        assert kept.used_nbytes <= config(24).limit_nbytes


def test_a_file_that_cannot_be_removed_keeps_its_bytes_and_others_go() -> None:
    disk, clock = Sticky(), VirtualClock()
    disk.kept = ("segment-00000001.kv1", "segment-00000003.kv1")
    with store(disk, config(24), clock) as kept:
        fill(kept, OLD + NEW, clock)
        assert kept.counters.write_faults == 2
        assert kept.counters.lost == 0
        assert get(kept, NEW[-1])
        assert kept.used_nbytes <= config(24).limit_nbytes
        assert not kept.why_off


def test_when_nothing_can_be_removed_nothing_more_is_written() -> None:
    disk, clock = Sticky(), VirtualClock()
    disk.kept = tuple(f"segment-{number:08d}.kv1" for number in range(1, 99))
    with store(disk, config(24), clock) as kept:
        fill(kept, OLD + NEW, clock)
        assert kept.used_nbytes <= config(24).limit_nbytes
        assert kept.counters.lost > 0


def test_a_block_that_rotted_is_not_taken_along() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    with store(disk, config(24), clock) as kept:
        fill(kept, OLD[:6], clock)
        assert get(kept, OLD[0])
        entry = kept._shelf.get(OLD[0].key)
        assert entry is not None
        segment = kept._opened.space.segments[entry.segment]
        disk.flip_bit(kept._opened.space.path(segment), entry.payload_offset + 9)
        clock.advance(1e6)
        fill(kept, NEW, clock)
        assert not get(kept, OLD[0])
        assert kept.counters.corrupt == 0, "it was never offered to anybody"
