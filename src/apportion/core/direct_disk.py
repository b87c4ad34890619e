"""The machine's file system past the page cache: for large files that are written once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from apportion.core.disk import Buffer, OpenMode, RealDisk, RealFile, fault

BLOCK_NBYTES = 4096
_DIRECT = getattr(os, "O_DIRECT", 0)  # not every system has it


class DirectDisk(RealDisk):
    """Whole blocks, in memory that begins at a page, go past the page cache; everything else through it, and
    everything where the file system refuses.
    """

    def open(self, path: str | Path, mode: OpenMode = "read") -> RealFile:
        file = super().open(path, mode)
        try:
            flags = os.O_RDONLY if mode == "read" else os.O_RDWR
            direct = os.open(path, flags | _DIRECT | os.O_CLOEXEC) if _DIRECT else -1
        except OSError:
            return file
        return _DirectFile(file, direct)


class _DirectFile(RealFile):
    """A file that is open twice. `buffered` is taken over."""

    def __init__(self, buffered: RealFile, direct: int) -> None:
        super().__init__(buffered.path, buffered.release())
        self._direct = direct

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        if self._is_whole(len(buffer), offset):
            try:
                return os.preadv(self._direct, [buffer], offset)
            except OSError as error:
                self._give_up(error, "read", offset)
        return super().pread_into(buffer, offset)

    def pwrite(self, data: Buffer, offset: int) -> int:
        if self._is_whole(len(data), offset):
            try:
                return os.pwrite(self._direct, data, offset)
            except OSError as error:
                self._give_up(error, "write", offset)
        return super().pwrite(data, offset)

    def close(self) -> None:
        super().close()
        if self._direct >= 0:
            direct, self._direct = self._direct, -1
            os.close(direct)

    def _is_whole(self, nbytes: int, offset: int) -> bool:
        return self._direct >= 0 and bool(nbytes) and (nbytes | offset) % BLOCK_NBYTES == 0

    def _give_up(self, error: OSError, operation: str, offset: int) -> None:
        """Return where the system only refuses to go past the page cache with this memory."""
        if error.errno != errno.EINVAL:
            raise fault(operation, self.path, error.errno or errno.EIO, offset) from error
