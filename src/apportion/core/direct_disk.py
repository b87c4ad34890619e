"""The machine's file system past the page cache: for large files that are read or written once, from front to
back. It spares the system the copies, and other programs what they have in the cache.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.core.disk import Buffer, OpenMode, RealDisk, RealFile, fault

BLOCK_NBYTES = 4096
WINDOW_NBYTES = 2 << 20  # what is read at once for memory that does not lie as direct reads need it
SMALL_NBYTES = 64 << 10  # less than that is quicker through the page cache
_DIRECT = getattr(os, "O_DIRECT", 0)  # not every system has it


class DirectDisk(RealDisk):
    """Writes of whole blocks, from memory that begins at a page, go past the page cache, and so do all larger
    reads. Everything else goes through it, and everything where the file system refuses.
    """

    def __init__(self) -> None:
        self._windows = _Windows()

    def open(self, path: str | Path, mode: OpenMode = "read") -> RealFile:
        file = super().open(path, mode)
        try:
            flags = os.O_RDONLY if mode == "read" else os.O_RDWR
            direct = os.open(path, flags | _DIRECT | os.O_CLOEXEC) if _DIRECT else -1
        except OSError:
            return file
        return _DirectFile(file, direct, self._windows)


class _Windows:
    """Memory that begins at a page: as many pieces as there are readers at once, kept for the next ones."""

    def __init__(self) -> None:
        self._idle: deque[mmap.mmap] = deque()

    @contextmanager
    def one(self) -> Iterator[memoryview]:
        """A piece for the length of the block."""
        try:
            memory = self._idle.pop()  # one step: no other thread gets the same
        except IndexError:
            memory = mmap.mmap(-1, WINDOW_NBYTES)
        try:
            with memoryview(memory) as view:
                yield view
        finally:
            self._idle.append(memory)


class _DirectFile(RealFile):
    """A file that is open twice. `buffered` is taken over."""

    def __init__(self, buffered: RealFile, direct: int, windows: _Windows) -> None:
        super().__init__(buffered.path, buffered.release())
        self._direct = direct
        self._windows = windows

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        if self._direct < 0 or len(buffer) < SMALL_NBYTES:
            return super().pread_into(buffer, offset)
        try:
            if (len(buffer) | offset) % BLOCK_NBYTES == 0:
                return os.preadv(self._direct, [buffer], offset)
        except OSError as error:
            self._require_refusal(error, "read", offset)
        return self._through_window(memoryview(buffer), offset)

    def pwrite(self, data: Buffer, offset: int) -> int:
        if self._direct >= 0 and data and (len(data) | offset) % BLOCK_NBYTES == 0:
            try:
                return os.pwrite(self._direct, data, offset)
            except OSError as error:
                self._require_refusal(error, "write", offset)
        return super().pwrite(data, offset)

    def close(self) -> None:
        super().close()
        if self._direct >= 0:
            direct, self._direct = self._direct, -1
            os.close(direct)

    def _through_window(self, buffer: memoryview, offset: int) -> int:
        skipped = offset % BLOCK_NBYTES
        with self._windows.one() as memory:
            nbytes = min(WINDOW_NBYTES, -(-(skipped + len(buffer)) // BLOCK_NBYTES) * BLOCK_NBYTES)
            try:
                got = os.preadv(self._direct, [memory[:nbytes]], offset - skipped)
            except OSError as error:
                self._require_refusal(error, "read", offset)
                return super().pread_into(buffer, offset)
            count = max(0, min(got - skipped, len(buffer)))
            buffer[:count] = memory[skipped : skipped + count]
        return count

    def _require_refusal(self, error: OSError, operation: str, offset: int) -> None:
        """Raise, unless the system only refuses to go past the page cache."""
        if error.errno != errno.EINVAL:
            raise fault(operation, self.path, error.errno or errno.EIO, offset) from error
