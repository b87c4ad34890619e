"""One process at a time makes a given file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from apportion.core.disk import faults
from apportion.core.errors import LimitExceeded


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Inside the block no other process that asks for it makes `out`. The kernel lets go of it when the
    process ends, however it ends.

    Raises:
        LimitExceeded: another process makes it now.
        DiskFault: the folder cannot be written to.
    """
    path = out.with_name(f".{out.name}.lock")
    with faults("open", path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not _taken(lock, path):
            raise LimitExceeded(f"another process makes {out}", hint="wait for it, or end it")
        try:
            yield
        finally:
            with suppress(OSError):
                os.remove(path)
    finally:
        os.close(lock)


def _taken(lock: int, path: Path) -> bool:
    """Whether we hold the lock, and the file that we locked still has its name."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_ino == os.stat(path).st_ino
    except OSError:
        return False
