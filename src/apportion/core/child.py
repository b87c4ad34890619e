"""A child process that answers questions and may break its limits: started when needed, replaced when broken.

The far end is `core.child_side`. Messages are length-prefixed, one question and then one answer.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_REPLY_NBYTES = 32 << 20
WALL_LIMIT_S = 30.0
_SOURCE = Path(__file__).resolve().parents[2]  # the folder that holds our package


class ChildBroken(Exception):
    """The child ended, or did not answer in time.

    Attributes:
        status: its exit status; minus the signal's number where one ended it; None where it never ran.
        starting: whether it was not even ready for a question.
    """

    def __init__(self, why: str, status: int | None, *, starting: bool) -> None:
        super().__init__(why)
        self.status = status
        self.starting = starting


class Child:
    """One process, isolated: an empty environment, three pipes, and the libraries that it is given.

    Safe to share between threads, which take turns.

    Args:
        script: the program; its arguments are `limits` and then the folders to import from.
        libraries: folders that hold what it imports besides our own package.
        wall_limit_s: a question may take no longer.
    """

    def __init__(
        self,
        script: Path,
        limits: Sequence[float],
        libraries: Sequence[str],
        wall_limit_s: float = WALL_LIMIT_S,
    ) -> None:
        folders = sorted({*libraries, str(_SOURCE)})
        # Isolated and without site: quick to start, and nothing of the caller's environment takes part.
        self._command = [sys.executable, "-I", "-S", str(script), *map(str, limits), *folders]
        self._wall_limit_s = wall_limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cleanup: weakref.finalize[Any, Any] | None = None

    def ask(self, data: bytes) -> bytes:
        """The answer to a question.

        Raises:
            ChildBroken: there is none; the next question starts a new child.
        """
        with self._lock:
            child = self._process or self._start()
            return self._exchange(child, data, self._wall_limit_s)

    def close(self) -> None:
        """End the child; the next question starts a new one."""
        with self._lock:
            self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            close_fds=True,
            bufsize=0,
        )
        self._process = child
        self._cleanup = weakref.finalize(self, _end, child)
        self._exchange(child, None, WALL_LIMIT_S)
        return child

    def _exchange(self, child: subprocess.Popen[bytes], data: bytes | None, limit_s: float) -> bytes:
        try:
            return _exchange(child, data, time.monotonic() + limit_s)
        except (EOFError, OSError) as error:
            status = self._stop()
            raise ChildBroken(str(error), status, starting=data is None) from None
        except BaseException:
            self._stop()  # interrupted half-way: its answer must not be taken for that of the next question
            raise

    def _stop(self) -> int | None:
        child, self._process = self._process, None
        if self._cleanup is not None:
            self._cleanup()
            self._cleanup = None
        return None if child is None else child.returncode


def _exchange(child: subprocess.Popen[bytes], data: bytes | None, deadline: float) -> bytes:
    """Send one message (if any) and receive one. Raises EOFError when the child is gone or too slow."""
    assert child.stdin is not None
    assert child.stdout is not None
    if data is not None:
        _write(child.stdin.fileno(), len(data).to_bytes(4, "big") + data, deadline)
    size = int.from_bytes(_read(child.stdout.fileno(), 4, deadline), "big")
    if size > MAX_REPLY_NBYTES:
        raise EOFError("the reply is too long")
    return _read(child.stdout.fileno(), size, deadline)


def _write(fd: int, data: bytes, deadline: float) -> None:
    os.set_blocking(fd, False)
    view = memoryview(data)
    while view:
        if not select.select([], [fd], [], max(0.0, deadline - time.monotonic()))[1]:
            raise EOFError("no answer")
        view = view[os.write(fd, view) :]


def _read(fd: int, size: int, deadline: float) -> bytes:
    out = bytearray()
    while len(out) < size:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise EOFError("no answer")
        part = os.read(fd, min(size - len(out), 1 << 20))
        if not part:
            raise EOFError("the process ended")
        out += part
    return bytes(out)


def _end(child: subprocess.Popen[bytes]) -> None:
    # By then it may have ended by itself, of a limit; its status tells which.
    try:
        child.wait(2.0 if child.poll() is None and _closed(child) else 0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _closed(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child has closed its output: it is on its way out."""
    if child.stdout is None or child.stdout.closed:
        return True
    fd = child.stdout.fileno()
    return bool(select.select([fd], [], [], 0)[0]) and os.read(fd, 1) == b""
