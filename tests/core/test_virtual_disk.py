"""What a power cut may leave of a disk in memory, checked against a plain model of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from apportion.core.disk import read_exactly, write_all
from apportion.core.errors import DiskFault, NotFound
from apportion.core.virtual_disk import SECTOR_NBYTES, VirtualDisk

FOLDER = Path("/store")
NAMES = st.sampled_from([FOLDER / name for name in "abc"])


def put(disk: VirtualDisk, path: Path, data: bytes, *, sync: bool = False) -> None:
    with disk.open(path, "create") as file:
        write_all(file, data, 0)
        if sync:
            file.fdatasync()
    if sync:
        disk.sync_folder(path.parent)


def content(disk: VirtualDisk, path: Path) -> bytes:
    with disk.open(path) as file:
        buffer = bytearray(file.size)
        read_exactly(file, buffer, 0)
    return bytes(buffer)


def test_a_crash_drops_what_was_not_synced() -> None:
    disk = VirtualDisk()
    put(disk, FOLDER / "kept", b"safe", sync=True)
    put(disk, FOLDER / "lost", b"gone")
    with disk.open(FOLDER / "kept", "write") as file:
        file.pwrite(b"SAFER", 0)
    disk.crash()
    assert disk.listdir(FOLDER) == ["kept"]
    assert content(disk, FOLDER / "kept") == b"safe"


def test_a_crash_undoes_names_that_were_not_synced() -> None:
    disk = VirtualDisk()
    put(disk, FOLDER / "a", b"a", sync=True)
    put(disk, FOLDER / "b", b"b", sync=True)
    disk.rename(FOLDER / "a", FOLDER / "c")
    disk.remove(FOLDER / "b")
    assert disk.listdir(FOLDER) == ["c"]
    disk.crash()
    assert disk.listdir(FOLDER) == ["a", "b"]


def test_a_name_that_is_safe_says_nothing_about_the_data() -> None:
    disk = VirtualDisk()
    put(disk, FOLDER / "a", b"data")
    disk.sync_folder(FOLDER)
    disk.crash()
    assert content(disk, FOLDER / "a") == b""


def test_syncing_a_folder_makes_what_came_before_it_safe_and_nothing_after() -> None:
    disk = VirtualDisk()
    put(disk, Path("/x/1"), b"")
    put(disk, Path("/y/2"), b"")
    put(disk, Path("/x/3"), b"")
    disk.sync_folder("/y")
    disk.sync_folder("/untouched")
    disk.crash()
    assert disk.listdir("/x") == ["1"]
    assert disk.listdir("/y") == ["2"]


def test_a_file_that_was_open_during_a_crash_is_dead() -> None:
    disk = VirtualDisk()
    file = disk.open(FOLDER / "a", "create")
    disk.sync_folder(FOLDER)
    disk.crash()
    with pytest.raises(DiskFault) as caught:
        file.pwrite(b"x", 0)
    assert caught.value.numbers["errno"] == "ESTALE"


def test_a_removed_file_stays_readable_while_it_is_open() -> None:
    disk = VirtualDisk()
    put(disk, FOLDER / "a", b"still here")
    with disk.open(FOLDER / "a") as file:
        disk.remove(FOLDER / "a")
        assert file.pread(5, 0) == b"still"
    with pytest.raises(NotFound):
        disk.open(FOLDER / "a")


def test_a_crash_tears_a_write_only_where_sectors_meet() -> None:
    data = bytes([1]) * (SECTOR_NBYTES + 100)
    images = set()
    for seed in range(40):
        disk = VirtualDisk()
        put(disk, FOLDER / "a", bytes(3 * SECTOR_NBYTES), sync=True)
        with disk.open(FOLDER / "a", "write") as file:
            file.pwrite(data, 500)
        disk.crash(random.Random(seed))
        images.add(content(disk, FOLDER / "a"))
    # The write touches three sectors (bytes 500-511, 512-1023, 1024-1111): each is old or new as a whole.
    assert len(images) == 8
    for image in images:
        assert {len(set(part)) for part in (image[500:512], image[512:1024], image[1024:1112])} == {1}


def test_the_same_seed_leaves_the_same_image() -> None:
    def image(seed: int) -> tuple[list[str], bytes]:
        disk = VirtualDisk()
        put(disk, FOLDER / "a", bytes(5000), sync=True)
        with disk.open(FOLDER / "a", "write") as file:
            file.pwrite(b"x" * 5000, 0)
        put(disk, FOLDER / "b", b"")
        disk.crash(random.Random(seed))
        return disk.listdir(FOLDER), content(disk, FOLDER / "a")

    assert image(3) == image(3)
    assert len({str(image(seed)) for seed in range(5)}) > 1


def test_a_full_disk_takes_what_fits_and_then_says_so() -> None:
    disk = VirtualDisk(capacity=10)
    with disk.open(FOLDER / "a", "create") as file:
        assert file.pwrite(b"12345678", 0) == 8
        assert file.pwrite(b"12345678", 8) == 2
        with pytest.raises(DiskFault) as caught:
            file.pwrite(b"x", 10)
        assert caught.value.numbers["errno"] == "ENOSPC"
        assert file.pwrite(b"overwriting needs no room"[:10], 0) == 10
    disk.remove(FOLDER / "a")
    put(disk, FOLDER / "b", b"room again")


def test_bit_rot_changes_one_bit_for_good() -> None:
    disk = VirtualDisk()
    put(disk, FOLDER / "a", b"\0\0", sync=True)
    with disk.open(FOLDER / "a", "write") as file:
        file.pwrite(b"\0", 2)
    disk.flip_bit(FOLDER / "a", 1, bit=3)
    disk.flip_bit(FOLDER / "a", 2)
    assert content(disk, FOLDER / "a") == b"\0\x08\x01"
    disk.crash()
    assert content(disk, FOLDER / "a") == b"\0\x08"


class DiskMachine(RuleBasedStateMachine):
    """Against a dict: reads see the last write, after a crash a synced file is exactly what was synced."""

    @initialize()
    def start(self) -> None:
        self.disk = VirtualDisk()
        self.seen: dict[Path, bytearray] = {}
        self.safe: dict[Path, bytes] = {}

    @rule(path=NAMES, data=st.binary(max_size=1500))
    def create(self, path: Path, data: bytes) -> None:
        put(self.disk, path, data)
        self.seen[path] = bytearray(data)

    @rule(path=NAMES, data=st.binary(min_size=1, max_size=1500), offset=st.integers(0, 2000))
    def write(self, path: Path, data: bytes, offset: int) -> None:
        if path in self.seen:
            with self.disk.open(path, "write") as file:
                write_all(file, data, offset)
            old = self.seen[path]
            old.extend(bytes(max(offset + len(data) - len(old), 0)))
            old[offset : offset + len(data)] = data

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: Path, new: Path) -> None:
        if old in self.seen:
            self.disk.rename(old, new)
            self.seen[new] = self.seen.pop(old)

    @rule(path=NAMES)
    def remove(self, path: Path) -> None:
        if path in self.seen:
            self.disk.remove(path)
            del self.seen[path]

    @rule()
    def sync_everything(self) -> None:
        for path in self.seen:
            with self.disk.open(path) as file:
                file.fdatasync()
        self.disk.sync_folder(FOLDER)
        self.safe = {path: bytes(data) for path, data in self.seen.items()}

    @rule()
    def crash_dropping_all(self) -> None:
        self.disk.crash()
        assert {path: content(self.disk, path) for path in self.safe} == self.safe
        assert self.disk.listdir(FOLDER) == sorted(path.name for path in self.safe)
        self.seen = {path: bytearray(data) for path, data in self.safe.items()}

    @rule(seed=st.integers(0, 1000))
    def crash_keeping_some(self, seed: int) -> None:
        self.disk.crash(random.Random(seed))
        left = {FOLDER / name: content(self.disk, FOLDER / name) for name in self.disk.listdir(FOLDER)}
        self.seen = {path: bytearray(data) for path, data in left.items()}
        self.safe = left  # what a restart finds is all there is

    @invariant()
    def reads_see_the_last_write(self) -> None:
        for path, data in self.seen.items():
            assert content(self.disk, path) == data
            assert self.disk.size(path) == len(data)
        assert self.disk.listdir(FOLDER) == sorted(path.name for path in self.seen)


TestDiskMachine = DiskMachine.TestCase
TestDiskMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@given(st.binary(max_size=3000), st.integers(0, 3000), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_torn_write_leaves_every_byte_old_or_new(data: bytes, offset: int, seed: int) -> None:
    disk = VirtualDisk()
    old = b"\xaa" * 2048
    put(disk, FOLDER / "a", old, sync=True)
    with disk.open(FOLDER / "a", "write") as file:
        write_all(file, data, offset)
    new = content(disk, FOLDER / "a")
    disk.crash(random.Random(seed))
    for position, byte in enumerate(content(disk, FOLDER / "a")):
        before = old[position] if position < len(old) else 0
        assert byte in (before, new[position])
