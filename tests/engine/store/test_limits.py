"""The limit on disk holds at every moment: through many puts, restarts, smaller limits and full disks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.store.house import FOLDER, RECORD_NBYTES, chain, config, get, put, store

from apportion.core.clock import RealClock, VirtualClock
from apportion.core.disk import RealDisk
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.store.folder import SMALL_FILES_NBYTES

BLOCKS = chain(1, 1000)


class Watched(VirtualDisk):
    """Notes the most bytes that its files ever took."""

    def __init__(self, capacity: int | None = None) -> None:
        super().__init__(capacity)
        self.peak = 0

    def _room_for(self, extra: int) -> int:
        room = super()._room_for(extra)
        self.peak = max(self.peak, room + sum(self.size(FOLDER / name) for name in self.listdir(FOLDER)))
        return room


@pytest.mark.parametrize("num_records", [8, 30])
def test_a_thousand_puts_stay_within_the_limit_at_every_write(num_records: int) -> None:
    disk, limits = Watched(), config(num_records, writes_per_day_nbytes=10**12)
    with store(disk, limits) as kept:
        for i, block in enumerate(BLOCKS):
            assert put(kept, block)
            if i % 3 == 0:
                get(kept, BLOCKS[max(i - 5, 0)])
        kept.flush()
        assert kept.counters.written == 1000
        assert kept.counters.lost == 0
        assert len(kept) >= num_records // 2, "most of the room is used"
        assert get(kept, BLOCKS[-1])
    assert limits.limit_nbytes * 0.6 < disk.peak <= limits.limit_nbytes


def test_the_limit_holds_across_restarts_and_crashes() -> None:
    disk, limits = Watched(), config(30)
    for first in range(0, 1000, 50):
        kept = store(disk, limits)
        for block in BLOCKS[first : first + 50]:
            assert put(kept, block)
        kept.flush()
        if first % 100:
            kept.close()
        else:
            disk.crash()
    assert disk.peak <= limits.limit_nbytes


def test_a_smaller_limit_is_kept_from_the_opening_on() -> None:
    disk = VirtualDisk()
    with store(disk, config(100)) as kept:
        for block in BLOCKS[:90]:
            put(kept, block)
    with store(disk, config(40)) as kept:
        assert kept.used_nbytes <= config(40).limit_nbytes
        assert 20 <= len(kept) <= 40
        assert sum(disk.size(FOLDER / name) for name in disk.listdir(FOLDER)) <= config(40).limit_nbytes


def test_what_is_read_again_and_again_outlives_what_is_not() -> None:
    clock = VirtualClock()
    with store(VirtualDisk(), config(40), clock) as kept:
        hot = chain(2, 4)
        for i, block in enumerate(BLOCKS[:300]):
            put(kept, block)
            if i in (0, 5, 10, 15):  # each in a segment of others
                put(kept, hot[i // 5])
            if i % 4 == 0:
                clock.advance(1.0)
                assert all(get(kept, block) for block in hot[: i // 5 + 1]), i
        assert kept.counters.moved > 0
        assert kept.counters.nbytes_written < 1.5 * 304 * RECORD_NBYTES


def test_a_full_disk_in_memory_degrades_and_reads_go_on() -> None:
    disk = VirtualDisk(capacity=20 * RECORD_NBYTES)
    with store(disk, config(60)) as kept:
        for block in BLOCKS[:60]:
            put(kept, block)
        kept.flush()
        assert "ENOSPC" in kept.why_off
        assert kept.counters.lost > 0
        assert 10 <= sum(get(kept, block) for block in BLOCKS[:60]) <= 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: that takes root and the right to mount")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_real_disk_that_is_full_degrades_and_reads_go_on(small_disk: Path) -> None:
    said: list[str] = []
    limits = config(200)
    kept = store(RealDisk(), limits, RealClock(), small_disk / "store", background=True, say=said.append)
    for block in BLOCKS[:150]:
        put(kept, block, timeout_s=5.0)
    kept.flush()
    assert "ENOSPC" in kept.why_off
    assert len(said) == 1
    num_found = sum(get(kept, block) for block in BLOCKS[:150])
    assert num_found > 40
    assert kept.close()
    with store(RealDisk(), limits, RealClock(), small_disk / "store") as kept:
        assert sum(get(kept, block) for block in BLOCKS[:150]) >= num_found
    free = (1 << 20) // RECORD_NBYTES // 2
    with store(RealDisk(), config(free), RealClock(), small_disk / "store") as kept:
        assert kept.used_nbytes <= free * RECORD_NBYTES + SMALL_FILES_NBYTES
        assert put(kept, chain(3, 1)[0])
        kept.flush()
        assert get(kept, chain(3, 1)[0])
