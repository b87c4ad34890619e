"""One file of a checkpoint, open for reading, of known size; every read goes through the disk port."""

from __future__ import annotations

from pathlib import Path

from apportion.core.disk import Disk, RealDisk, read_exactly
from apportion.core.errors import BadFile

REAL_DISK = RealDisk()


class SourceFile:
    """A regular file opened read-only. `size` is what it was when it was opened.

    Raises:
        NotFound: there is no such file.
        BadFile: it is a folder, pipe or device.
        DiskFault: the operating system refused it.
    """

    def __init__(self, path: Path, disk: Disk = REAL_DISK) -> None:
        refuse_special(path)
        self.path = path
        self._file = disk.open(path)
        self.size = self._file.size

    def read_into(self, out: memoryview, offset: int) -> None:
        """Fill `out` from byte `offset` of the file on.

        Raises:
            Truncated: the file ends first.
            DiskFault: the operating system failed the read.
        """
        read_exactly(self._file, out, offset)

    def close(self) -> None:
        self._file.close()


def refuse_special(path: Path) -> None:
    """Refuse what is no file before it is opened: opening a pipe would wait for a writer.

    Raises:
        BadFile: it is a folder, pipe or device.
    """
    try:
        special = path.exists() and not path.is_file()
    except (OSError, ValueError):  # the open will say what is wrong
        return
    if special:
        raise BadFile(f"not a file: {path}", "it is a folder, a pipe or a device", "give a model file")
