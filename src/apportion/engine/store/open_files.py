"""Segments that are open for reading: a few at a time, and never one that is about to be removed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from apportion.core.disk import Disk, DiskFile
from apportion.core.errors import NotFound
from apportion.engine.store.space import Segment, Space

MAX_OPEN = 16


@dataclass(slots=True)
class _Open:
    file: DiskFile
    num_users: int = 0


class OpenFiles:
    """Open segments by number, the one used last at the end. Safe to use from several threads."""

    def __init__(self, disk: Disk, space: Space, max_open: int = MAX_OPEN) -> None:
        self._disk = disk
        self._space = space
        self._max_open = max_open
        self._open: dict[int, _Open] = {}
        self._retired: set[int] = set()
        self._changed = threading.Condition()

    @contextmanager
    def borrow(self, number: int) -> Iterator[DiskFile]:
        """The open file of segment `number` for the length of the block.

        Raises:
            NotFound: there is no such segment.
            DiskFault: it cannot be opened.
        """
        with self._changed:
            opened = self._get(number)
            opened.num_users += 1
        try:
            yield opened.file
        finally:
            with self._changed:
                opened.num_users -= 1
                self._shrink()
                self._changed.notify_all()

    def retire(self, number: int, timeout_s: float) -> bool:
        """Close the segment for good; False when readers have not left it in time."""
        with self._changed:
            self._retired.add(number)
            if not self._changed.wait_for(lambda: self._is_idle(number), timeout_s):
                self._retired.discard(number)
                return False
            self._close(number)
            return True

    def close(self) -> None:
        """Close what nobody reads; what is being read closes with its last reader."""
        with self._changed:
            self._max_open = 0
            self._shrink()

    def _get(self, number: int) -> _Open:
        segment = self._space.segments.get(number)
        if segment is None or number in self._retired:
            raise NotFound(f"segment {number} is gone", "its room was needed")
        opened = self._open.pop(number, None)
        if opened is None:
            opened = _Open(self._open_file(segment))
        self._open[number] = opened
        return opened

    def _open_file(self, segment: Segment) -> DiskFile:
        try:
            return self._disk.open(self._space.path(segment))
        except NotFound:  # it may have been sealed since
            return self._disk.open(self._space.path(segment.sealed()))

    def _is_idle(self, number: int) -> bool:
        return number not in self._open or self._open[number].num_users == 0

    def _shrink(self) -> None:
        idle = [number for number, opened in self._open.items() if not opened.num_users]
        for number in idle[: max(len(self._open) - self._max_open, 0)]:
            self._close(number)

    def _close(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            opened.file.close()
