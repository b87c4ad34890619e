from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apportion.core import disk as disk_module
from apportion.core.disk import Disk, RealDisk, fault, read_exactly, write_all
from apportion.core.errors import DiskFault, NotFound, Truncated
from apportion.core.virtual_disk import VirtualDisk


@pytest.fixture(params=[RealDisk, VirtualDisk])
def disk(request: pytest.FixtureRequest) -> Disk:
    return request.param()


def put(disk: Disk, path: Path, data: bytes) -> None:
    with disk.open(path, "create") as file:
        write_all(file, data, 0)


def test_what_is_written_is_read_back_at_any_offset(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with disk.open(path, "create") as file:
        assert file.pwrite(b"hello world", 0) == 11
        assert file.pwrite(b"there", 6) == 5
        file.fdatasync()
        assert file.pread(5, 0) == b"hello"
        buffer = bytearray(8)
        assert file.pread_into(buffer, 6) == 5
        assert buffer == b"there\0\0\0"
        assert (file.path, file.size) == (path, 11)
    assert disk.size(path) == 11


def test_reading_past_the_end_gives_nothing(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", b"abc")
    with disk.open(tmp_path / "a") as file:
        assert file.pread(4, 3) == b""
        assert file.pread_into(bytearray(4), 99) == 0


def test_a_write_past_the_end_leaves_zeros_between(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", b"ab")
    with disk.open(tmp_path / "a", "write") as file:
        file.pwrite(b"z", 4)
        assert file.pwrite(b"", 50) == 0
        assert file.pread(9, 0) == b"ab\0\0z"


def test_creating_empties_what_was_there(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", b"old")
    put(disk, tmp_path / "a", b"")
    assert disk.size(tmp_path / "a") == 0


def test_a_file_opened_for_reading_cannot_be_written(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", b"abc")
    with disk.open(tmp_path / "a") as file, pytest.raises(DiskFault) as caught:
        file.pwrite(b"x", 2)
    assert caught.value.numbers == {"errno": "EBADF", "offset": 2}
    assert str(tmp_path / "a") in caught.value.what


@pytest.mark.parametrize(
    "call",
    [
        lambda disk, path: disk.open(path),
        lambda disk, path: disk.open(path, "write"),
        lambda disk, path: disk.size(path),
        lambda disk, path: disk.remove(path),
        lambda disk, path: disk.rename(path, path.with_name("b")),
    ],
)
def test_a_missing_file_is_not_found(
    disk: Disk, tmp_path: Path, call: Callable[[Disk, Path], object]
) -> None:
    with pytest.raises(NotFound, match="missing"):
        call(disk, tmp_path / "missing")


def test_rename_replaces_and_remove_removes(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", b"new")
    put(disk, tmp_path / "b", b"older")
    disk.rename(tmp_path / "a", tmp_path / "b")
    disk.sync_folder(tmp_path)
    assert disk.listdir(tmp_path) == ["b"]
    assert disk.size(tmp_path / "b") == 3
    disk.rename(tmp_path / "b", tmp_path / "b")
    disk.remove(tmp_path / "b")
    assert disk.listdir(tmp_path) == []


def test_a_closed_file_is_a_fault_and_closing_twice_is_not(disk: Disk, tmp_path: Path) -> None:
    file = disk.open(tmp_path / "a", "create")
    file.close()
    file.close()
    for call in (
        lambda: file.pread(1, 0),
        lambda: file.pwrite(b"x", 0),
        lambda: file.size,
        file.fdatasync,
    ):
        with pytest.raises(DiskFault) as caught:
            call()
        assert caught.value.numbers["errno"] == "EBADF"


def test_read_exactly_names_what_is_missing(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a.gguf", b"abc")
    with disk.open(tmp_path / "a.gguf") as file, pytest.raises(Truncated) as caught:
        read_exactly(file, bytearray(8), 1)
    assert caught.value.numbers == {"offset": 1, "need": 8, "have": 2}
    assert "a.gguf" in caught.value.what


def test_read_exactly_fills_buffers_of_any_item_size(disk: Disk, tmp_path: Path) -> None:
    put(disk, tmp_path / "a", bytes(range(16)))
    buffer = bytearray(8)
    with disk.open(tmp_path / "a") as file:
        read_exactly(file, memoryview(buffer).cast("I"), 4)
    assert buffer == bytes(range(4, 12))


def test_the_real_disk_lists_folders_too_and_refuses_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    disk = RealDisk()
    assert disk.listdir(tmp_path) == ["folder"]
    with disk.open(tmp_path / "folder") as file, pytest.raises(DiskFault) as caught:
        file.pread(1, 0)
    assert caught.value.numbers["errno"] == "EISDIR"
    with pytest.raises(DiskFault):
        disk.open(tmp_path / "folder", "write")


def test_a_virtual_folder_lists_what_lies_directly_in_it() -> None:
    disk = VirtualDisk()
    for name in ("/m/a", "/m/sub/b", "/m/sub/c", "/other"):
        put(disk, Path(name), b"x")
    assert disk.listdir("/m") == ["a", "sub"]
    assert disk.listdir("/empty") == []


def test_real_files_are_synced_by_fsync_where_there_is_no_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "fsync", synced.append)
    with RealDisk().open(tmp_path / "a", "create") as file:
        file.fdatasync()
    assert len(synced) == 1


@pytest.mark.parametrize("number", sorted(disk_module._HINTS))
def test_every_known_fault_has_a_hint(number: int) -> None:
    error = fault("write", "store/seg.0", number, 4096)
    assert isinstance(error, DiskFault)
    assert error.hint
    assert error.numbers == {"errno": errno.errorcode[number], "offset": 4096}


def test_a_fault_that_nobody_has_heard_of_still_says_its_number() -> None:
    assert fault("read", "a", 99_999).numbers == {"errno": "99999"}


@pytest.mark.parametrize("make", [RealDisk, VirtualDisk])
def test_a_lock_has_one_owner_until_it_is_closed(make: type[RealDisk | VirtualDisk], tmp_path: Path) -> None:
    disk = make()
    disk.make_folder(tmp_path / "a" / "b")
    path = tmp_path / "a" / "b" / "lock"
    first = disk.lock(path)
    assert first is not None
    assert disk.lock(path) is None
    first.close()
    first.close()
    second = disk.lock(path)
    assert second is not None
    assert disk.lock(path) is None
    second.close()


def test_a_crash_ends_the_locks_of_a_disk_in_memory() -> None:
    disk = VirtualDisk()
    first = disk.lock("/s/lock")
    assert first is not None
    disk.crash()
    second = disk.lock("/s/lock")
    assert second is not None
    first.close()
    assert disk.lock("/s/lock") is None


def test_a_folder_that_cannot_be_made_is_a_disk_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskFault):
        RealDisk().make_folder(tmp_path / "file" / "folder")
