"""Writing past the page cache: the same bytes as through it, whatever is aligned."""

from __future__ import annotations

import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from apportion.core.direct_disk import WINDOW_NBYTES, DirectDisk
from apportion.core.disk import read_exactly, write_all
from apportion.core.errors import DiskFault, NotFound, Truncated


def aligned(data: bytes) -> memoryview:
    """The bytes in memory that begins at a page."""
    room = mmap.mmap(-1, max(len(data), 1))
    room[: len(data)] = data
    return memoryview(room)[: len(data)]


def test_aligned_and_other_writes_end_up_in_one_file(tmp_path: Path) -> None:
    rng = random.Random(0)
    expected = bytearray()
    with DirectDisk().open(tmp_path / "a", "create") as file:
        for nbytes in (8192, 4096, 100, 4096, 12288, 3996, 4096, 1):
            data = rng.randbytes(nbytes)
            write_all(file, aligned(data) if nbytes % 3 else data, len(expected))
            expected += data
        file.fdatasync()
        back = aligned(bytes(len(expected)))
        read_exactly(file, back, 0)
        assert back == expected
        assert file.size == len(expected)
    assert (tmp_path / "a").read_bytes() == expected


def test_whole_blocks_are_read_back_wherever_they_begin(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(40_000)
    (tmp_path / "a").write_bytes(data)
    with DirectDisk().open(tmp_path / "a") as file:
        for offset, nbytes in ((0, 4096), (4096, 8192), (36864, 4096), (5, 4096), (0, 40_000)):
            back = aligned(bytes(min(nbytes, len(data) - offset)))
            read_exactly(file, back, offset)
            assert back == data[offset : offset + nbytes]


@pytest.mark.parametrize("shift", [0, 5])
def test_large_reads_need_no_alignment(tmp_path: Path, shift: int) -> None:
    data = random.Random(2).randbytes(2 * WINDOW_NBYTES + 12345)
    (tmp_path / "a").write_bytes(data)
    with DirectDisk().open(tmp_path / "a") as file:
        for offset, nbytes in ((0, len(data)), (4096, 1 << 20), (777, len(data) - 777), (4095, 70_000)):
            room = aligned(bytes(nbytes + shift))[shift:]
            read_exactly(file, room, offset)
            assert room == data[offset : offset + nbytes]
        with pytest.raises(Truncated):
            read_exactly(file, bytearray(100_000), len(data) - 99_999)
        assert file.pread_into(bytearray(100_000), len(data) + 5) == 0


def test_a_system_that_refuses_is_served_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: object, flags: int, mode: int = 0o777) -> int:
        if flags & getattr(os, "O_DIRECT", 0):
            raise OSError(errno.EINVAL, "refused")
        return real(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    with DirectDisk().open(tmp_path / "a", "create") as file:
        write_all(file, aligned(b"x" * 4096), 0)
    assert (tmp_path / "a").read_bytes() == b"x" * 4096


def test_failures_name_the_file_and_the_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with DirectDisk().open(tmp_path / "a", "create") as file, pytest.raises(DiskFault) as failed:
        write_all(file, aligned(bytes(4096)), 8192)
    assert failed.value.numbers == {"errno": "ENOSPC", "offset": 8192}
    with pytest.raises(NotFound):
        DirectDisk().open(tmp_path / "absent")
