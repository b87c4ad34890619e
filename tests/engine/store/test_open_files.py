"""Segments that are open for reading: a few at a time, and none that is being read is closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.core.errors import NotFound
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.store.folder import SegmentName
from apportion.engine.store.open_files import OpenFiles
from apportion.engine.store.space import Segment, Space

FOLDER = Path("/s")


class Counting(VirtualDisk):
    """Counts what is opened for reading."""

    num_opened = 0

    def open(self, path, mode="read"):  # type: ignore[no-untyped-def]
        self.num_opened += mode == "read"
        return super().open(path, mode)


def files(num_segments: int, max_open: int) -> tuple[Counting, Space, OpenFiles]:
    disk = Counting()
    space = Space(disk, FOLDER)
    for number in range(1, num_segments + 1):
        segment = Segment(SegmentName(number), 1)
        disk.open(space.path(segment), "create").pwrite(bytes([number]), 0)
        space.add(segment)
    return disk, space, OpenFiles(disk, space, max_open)


def content(opened: OpenFiles, number: int) -> int:
    with opened.borrow(number) as file:
        return file.pread(1, 0)[0]


def test_a_segment_stays_open_until_others_need_its_place() -> None:
    disk, _, opened = files(5, max_open=3)
    for number in (1, 2, 3, 1, 2, 3):
        assert content(opened, number) == number
    assert disk.num_opened == 3
    assert [content(opened, number) for number in (4, 1, 2)] == [4, 1, 2]
    assert disk.num_opened == 6
    opened.close()


def test_what_is_being_read_is_not_closed() -> None:
    _, _, opened = files(4, max_open=1)
    with opened.borrow(1) as file:
        assert [content(opened, number) for number in (2, 3, 4)] == [2, 3, 4]
        opened.close()
        assert file.pread(1, 0) == b"\1"


def test_a_segment_that_is_being_read_is_not_retired_and_stays_readable() -> None:
    _, _, opened = files(2, max_open=2)
    with opened.borrow(1):
        assert not opened.retire(1, timeout_s=0.01)
        assert content(opened, 1) == 1
    assert opened.retire(1, timeout_s=0.01)
    with pytest.raises(NotFound, match="segment 1 is gone"):
        content(opened, 1)
    assert content(opened, 2) == 2


def test_a_segment_that_was_sealed_meanwhile_is_found_under_its_new_name() -> None:
    disk, space, opened = files(0, max_open=2)
    segment = Segment(SegmentName(1, is_sealed=False), 1)
    disk.open(FOLDER / str(SegmentName(1)), "create").pwrite(b"\1", 0)
    space.add(segment)
    assert content(opened, 1) == 1
