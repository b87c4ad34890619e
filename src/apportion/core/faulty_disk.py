"""A disk that fails on purpose: it wraps another and breaks the calls that a plan picks.

Two plans: `SeededFaults` breaks a share of the calls at random, the same ones for the same seed; `NthCall`
breaks one call, so that a test can break the first, the second and so on until the work under test runs
through.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from apportion.core.clock import Clock
from apportion.core.disk import Buffer, Disk, DiskFile, DiskLock, OpenMode, fault

SLOW_S = 1.0
STUCK_S = 30.0


class Fault(StrEnum):
    """A way to go wrong."""

    NO_SPACE = "no_space"
    IO_ERROR = "io_error"
    INTERRUPTED = "interrupted"
    SHORT = "short"
    SLOW = "slow"
    STUCK = "stuck"
    SYNC_ERROR = "sync_error"
    VANISHED = "vanished"
    TRY_AGAIN = "try_again"
    TOO_MANY_FILES = "too_many_files"
    DENIED = "denied"
    READ_ONLY = "read_only"
    OVER_QUOTA = "over_quota"
    OTHER_DISK = "other_disk"
    REFUSED = "refused"


_ERRNO = {
    Fault.NO_SPACE: errno.ENOSPC,
    Fault.IO_ERROR: errno.EIO,
    Fault.INTERRUPTED: errno.EINTR,
    Fault.SYNC_ERROR: errno.EIO,
    Fault.VANISHED: errno.ESTALE,
    Fault.TRY_AGAIN: errno.EAGAIN,
    Fault.TOO_MANY_FILES: errno.EMFILE,
    Fault.DENIED: errno.EACCES,
    Fault.READ_ONLY: errno.EROFS,
    Fault.OVER_QUOTA: errno.EDQUOT,
    Fault.OTHER_DISK: errno.EXDEV,
    Fault.REFUSED: errno.EINVAL,
}
_PAUSE_S = {Fault.SLOW: SLOW_S, Fault.STUCK: STUCK_S}

_ANYWHERE = frozenset({Fault.IO_ERROR, Fault.SLOW, Fault.STUCK})
_GROWS = frozenset({Fault.NO_SPACE, Fault.OVER_QUOTA, Fault.READ_ONLY})
_OPENS = frozenset({Fault.TOO_MANY_FILES, Fault.DENIED, Fault.READ_ONLY})
_MOVES = frozenset({Fault.INTERRUPTED, Fault.SHORT, Fault.VANISHED, Fault.TRY_AGAIN, Fault.REFUSED})
# Which faults an operation can meet; a plan that picks another one for it breaks nothing.
POSSIBLE: Mapping[str, frozenset[Fault]] = {
    "open": _ANYWHERE | _OPENS | {Fault.NO_SPACE, Fault.VANISHED},
    "stat": _ANYWHERE | {Fault.VANISHED},
    "read": _ANYWHERE | _MOVES,
    "write": _ANYWHERE | _MOVES | _GROWS,
    "sync": _ANYWHERE | {Fault.SYNC_ERROR},
    "list": _ANYWHERE | _OPENS,
    "rename": _ANYWHERE | {Fault.NO_SPACE, Fault.VANISHED, Fault.DENIED, Fault.READ_ONLY, Fault.OTHER_DISK},
    "remove": _ANYWHERE | {Fault.VANISHED, Fault.DENIED, Fault.READ_ONLY},
    "create folder": _ANYWHERE | {Fault.NO_SPACE, Fault.DENIED, Fault.READ_ONLY},
    "lock": _ANYWHERE | _OPENS | {Fault.NO_SPACE},
}


class FaultPlan(Protocol):
    """Says call by call what goes wrong."""

    def pick(self, operation: str) -> Fault | None:
        """The fault of this call of `operation` (a name of `POSSIBLE`)."""


class SeededFaults:
    """Each call meets each possible fault with its own chance."""

    def __init__(self, seed: int, chances: Mapping[Fault, float]) -> None:
        self._random = random.Random(seed)
        self._chances = dict(chances)

    def pick(self, operation: str) -> Fault | None:
        hit = None
        for kind, chance in self._chances.items():
            # Drawn for every kind, so that one kind's chance does not shift the others' luck.
            if self._random.random() < chance and hit is None and kind in POSSIBLE[operation]:
                hit = kind
        return hit


class NthCall:
    """Call number `n` (from 0) among those that can meet `kind` meets it; `broken` tells whether it came."""

    def __init__(self, n: int, kind: Fault, operation: str | None = None) -> None:
        self._left = n
        self._kind = kind
        self._operation = operation
        self.broken = False

    def pick(self, operation: str) -> Fault | None:
        if self._operation not in (None, operation) or self._kind not in POSSIBLE[operation]:
            return None
        self._left -= 1
        if self._left != -1:
            return None
        self.broken = True
        return self._kind


class FaultyDisk:
    """`inner`, broken by `plan`. `injected` lists (operation, path, fault) of what was broken, in order. A
    slow call sleeps on `clock`.
    """

    def __init__(self, inner: Disk, plan: FaultPlan, clock: Clock) -> None:
        self._inner = inner
        self._plan = plan
        self._clock = clock
        self.injected: list[tuple[str, Path, Fault]] = []

    def open(self, path: str | Path, mode: OpenMode = "read") -> FaultyFile:
        self.meet("open", path)
        return FaultyFile(self._inner.open(path, mode), self)

    def size(self, path: str | Path) -> int:
        self.meet("stat", path)
        return self._inner.size(path)

    def listdir(self, path: str | Path) -> list[str]:
        self.meet("list", path)
        return self._inner.listdir(path)

    def rename(self, source: str | Path, target: str | Path) -> None:
        self.meet("rename", source)
        self._inner.rename(source, target)

    def remove(self, path: str | Path) -> None:
        self.meet("remove", path)
        self._inner.remove(path)

    def sync_folder(self, path: str | Path) -> None:
        self.meet("sync", path)
        self._inner.sync_folder(path)

    def make_folder(self, path: str | Path) -> None:
        self.meet("create folder", path)
        self._inner.make_folder(path)

    def lock(self, path: str | Path) -> DiskLock | None:
        self.meet("lock", path)
        return self._inner.lock(path)

    def meet(self, operation: str, path: str | Path, offset: int | None = None) -> bool:
        """Let the plan break this call: raise, or be slow. True when the call is to be cut short."""
        kind = self._plan.pick(operation)
        if kind is None:
            return False
        self.injected.append((operation, Path(path), kind))
        if kind in _PAUSE_S:
            self._clock.sleep(_PAUSE_S[kind])
            return False
        if kind is Fault.SHORT:
            return True
        # A name that is gone is not found; only a file that is open already can go stale.
        gone = kind is Fault.VANISHED and offset is None
        raise fault(operation, path, errno.ENOENT if gone else _ERRNO[kind], offset)


class FaultyFile:
    """An open file of a `FaultyDisk`."""

    def __init__(self, inner: DiskFile, disk: FaultyDisk) -> None:
        self._inner = inner
        self._disk = disk

    @property
    def path(self) -> Path:
        return self._inner.path

    @property
    def size(self) -> int:
        self._disk.meet("stat", self.path)
        return self._inner.size

    def pread(self, nbytes: int, offset: int) -> bytes:
        short = self._disk.meet("read", self.path, offset)
        return self._inner.pread(_cut(nbytes, short), offset)

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        short = self._disk.meet("read", self.path, offset)
        view = memoryview(buffer).cast("B")
        return self._inner.pread_into(view[: _cut(len(view), short)], offset)

    def pwrite(self, data: Buffer, offset: int) -> int:
        short = self._disk.meet("write", self.path, offset)
        view = memoryview(data).cast("B")
        return self._inner.pwrite(view[: _cut(len(view), short)], offset)

    def fdatasync(self) -> None:
        self._disk.meet("sync", self.path)
        self._inner.fdatasync()

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cut(nbytes: int, short: bool) -> int:
    """Half of it, but never nothing: zero bytes would mean the end of the file."""
    return (nbytes + 1) // 2 if short else nbytes
