"""The disk port: what readers and stores ask of a file system, and the real one.

Reads and writes name their offset, may be short, and fail as `DiskFault` with the file and the offset.
`read_exactly` and `write_all` are the loops that callers want.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from apportion.core.errors import ApportionError, DiskFault, NotFound, Truncated

Buffer: TypeAlias = bytes | bytearray | memoryview
OpenMode: TypeAlias = Literal["read", "write", "create"]

_MAX_INTERRUPTS = 100  # in a row; past that the operation is reported instead of retried
_FLAGS: dict[str, int] = {
    "read": os.O_RDONLY,
    "write": os.O_RDWR,
    "create": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
}


class DiskFile(Protocol):
    """An open file. Closing twice is allowed; use after closing is a `DiskFault`."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Bytes in the file now."""

    def pread(self, nbytes: int, offset: int) -> bytes:
        """Up to `nbytes` bytes from `offset`; fewer at any time, none only at the end of the file."""

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        """Fill the writable `buffer` from `offset`; how many bytes came, zero only at the end of the file."""

    def pwrite(self, data: Buffer, offset: int) -> int:
        """Write `data` at `offset`; how many bytes were taken."""

    def fdatasync(self) -> None:
        """Return when what was written would survive a power cut. After a failure nothing is known of it:
        never try again and go on, give the file up.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class DiskLock(Protocol):
    """A lock that is held."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system. A missing file is `NotFound`, everything else that goes wrong a `DiskFault`."""

    def open(self, path: str | Path, mode: OpenMode = "read") -> DiskFile:
        """`read` an existing file, `write` (and read) an existing file, or `create` one empty."""

    def size(self, path: str | Path) -> int: ...

    def listdir(self, path: str | Path) -> list[str]:
        """The names of the files and folders in a folder, sorted."""

    def rename(self, source: str | Path, target: str | Path) -> None:
        """Give `source` the name `target` in one step, replacing what had it."""

    def remove(self, path: str | Path) -> None: ...

    def sync_folder(self, path: str | Path) -> None:
        """Return when names created, renamed and removed in the folder would survive a power cut."""

    def make_folder(self, path: str | Path) -> None:
        """Make the folder, for this user alone, and those above it where they are missing."""

    def lock(self, path: str | Path) -> DiskLock | None:
        """Be the one who has the lock that this file stands for, until closing it or the process's end; None
        when somebody else has it. The file is made where it is missing, and stays.
        """


class RealDisk:
    """The machine's file system, through the page cache."""

    def open(self, path: str | Path, mode: OpenMode = "read") -> RealFile:
        with faults("open", path):
            descriptor = os.open(path, _FLAGS[mode] | os.O_CLOEXEC, 0o644)
        return RealFile(Path(path), descriptor)

    def size(self, path: str | Path) -> int:
        with faults("stat", path):
            return os.stat(path).st_size

    def listdir(self, path: str | Path) -> list[str]:
        with faults("list", path):
            return sorted(os.listdir(path))

    def rename(self, source: str | Path, target: str | Path) -> None:
        with faults("rename", source):
            os.replace(source, target)

    def remove(self, path: str | Path) -> None:
        with faults("remove", path):
            os.remove(path)

    def sync_folder(self, path: str | Path) -> None:
        with faults("sync", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def make_folder(self, path: str | Path) -> None:
        with faults("create folder", path):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def lock(self, path: str | Path) -> RealFile | None:
        with faults("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError:
                os.close(descriptor)
                raise
        return RealFile(Path(path), descriptor)


class RealFile:
    """A file descriptor, owned."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def path(self) -> Path:
        return self._path

    @property
    def size(self) -> int:
        with faults("stat", self._path):
            return os.fstat(self._descriptor).st_size

    def pread(self, nbytes: int, offset: int) -> bytes:
        with faults("read", self._path, offset):
            return os.pread(self._descriptor, nbytes, offset)

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        with faults("read", self._path, offset):
            return os.preadv(self._descriptor, [buffer], offset)

    def pwrite(self, data: Buffer, offset: int) -> int:
        with faults("write", self._path, offset):
            return os.pwrite(self._descriptor, data, offset)

    def fdatasync(self) -> None:
        if self._descriptor < 0:  # Python checks this one itself, with an error of its own
            raise fault("sync", self._path, errno.EBADF)
        with faults("sync", self._path):
            if sys.platform == "linux":
                os.fdatasync(self._descriptor)
            else:
                os.fsync(self._descriptor)

    def release(self) -> int:
        """The descriptor, for another owner; the file is closed as far as this object goes."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_exactly(file: DiskFile, buffer: bytearray | memoryview, offset: int) -> None:
    """Fill the whole of `buffer` from `offset`, through short reads and interruptions.

    Raises:
        Truncated: the file ends first.
        DiskFault: a read failed.
    """
    view, filled, interrupts = memoryview(buffer).cast("B"), 0, 0
    while filled < len(view):
        try:
            count = file.pread_into(view[filled:], offset + filled)
        except DiskFault as fault:
            interrupts = _count_interrupt(fault, interrupts)
            continue
        if count == 0:
            raise Truncated(
                f"{file.path.name} ends too early",
                "the file is shorter than what was asked of it",
                "obtain the file again",
                offset=offset,
                need=len(view),
                have=filled,
            )
        filled, interrupts = filled + count, 0


def write_all(file: DiskFile, data: Buffer, offset: int) -> None:
    """Write the whole of `data` at `offset`, through short writes and interruptions.

    Raises:
        DiskFault: a write failed; how much of `data` is in the file is then unknown.
    """
    view, written, interrupts = memoryview(data).cast("B"), 0, 0
    while written < len(view):
        try:
            written += file.pwrite(view[written:], offset + written)
            interrupts = 0
        except DiskFault as fault:
            interrupts = _count_interrupt(fault, interrupts)


def _count_interrupt(fault: DiskFault, interrupts: int) -> int:
    if fault.numbers.get("errno") != "EINTR" or interrupts >= _MAX_INTERRUPTS:
        raise fault
    return interrupts + 1


@contextmanager
def faults(operation: str, path: str | Path, offset: int | None = None) -> Iterator[None]:
    """Turn the operating system's errors inside the block into ours."""
    try:
        yield
    except OSError as error:
        raise fault(operation, path, error.errno or errno.EIO, offset) from error


def fault(operation: str, path: str | Path, number: int, offset: int | None = None) -> ApportionError:
    """The error for errno `number` at `operation`, naming the file and, where there is one, the offset."""
    what = f"cannot {operation} {path}"
    if number == errno.ENOENT:
        return NotFound(what, "there is no such file", "check the path")
    numbers: dict[str, object] = {"errno": errno.errorcode.get(number, str(number))}
    if offset is not None:
        numbers["offset"] = offset
    return DiskFault(what, os.strerror(number), _HINTS.get(number, ""), **numbers)


_HINTS = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "your quota on that disk is used up: free some space",
    errno.EACCES: "check the file's permissions",
    errno.EPERM: "check the file's permissions",
    errno.EROFS: "the disk is mounted read-only: choose another folder",
    errno.EIO: "the disk may be failing: check the system's log",
    errno.EISDIR: "this is a folder: name the file in it",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EMFILE: "too many open files: raise the limit with `ulimit -n`",
    errno.ESTALE: "the file was removed or the disk went away while it was open",
}
