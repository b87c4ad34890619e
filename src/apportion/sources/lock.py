"""One process at a time obtains a given model; the others wait and then find it there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.core.errors import DiskFault, LimitExceeded

WAIT_LIMIT_S = 6 * 3600.0  # a large model over a slow line
POLL_S = 0.1


@contextmanager
def exclusive(path: Path, wait_limit_s: float = WAIT_LIMIT_S) -> Iterator[None]:
    """Hold the lock file at `path`; the kernel lets go of it when the process ends, however it ends.

    Raises:
        LimitExceeded: another process held it for `wait_limit_s`.
        DiskFault: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DiskFault(
            f"cannot write to the model cache at {path.parent}",
            error.strerror or str(error),
            "make it writable, or point APPORTION_MODELS_DIR at another folder",
        ) from error
    try:
        wait_for(lock, path, wait_limit_s)
        yield
    finally:
        os.close(lock)


def wait_for(lock: int, path: Path, wait_limit_s: float) -> None:
    deadline = time.monotonic() + wait_limit_s
    while not try_lock(lock):
        if time.monotonic() >= deadline:
            raise LimitExceeded(
                "gave up waiting for another process that obtains the same model",
                hint=f"end that process; it holds {path}",
                waited_s=round(wait_limit_s),
            )
        time.sleep(POLL_S)


def try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not try_lock(lock)
    finally:
        os.close(lock)
