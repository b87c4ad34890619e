"""The other end of `template_worker`: starts the child, asks it, and replaces it when it breaks a limit."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from apportion.core.errors import LimitExceeded, TemplateError, Unsupported

CPU_LIMIT_S = 1.0
MEMORY_LIMIT_NBYTES = 256 << 20
MAX_REQUEST_NBYTES = 16 << 20
MAX_REPLY_NBYTES = 32 << 20
# The processor time of one rendering is what is limited; this only catches a child that does not run at all.
WALL_LIMIT_S = 30.0

_WORKER = Path(__file__).with_name("template_worker.py")
_WHY = {
    "output": "its output is longer than 4 MiB",
    "memory": "it needs more than 256 MiB of memory",
    "depth": "it is nested too deep",
}


class TemplateProcess:
    """A child process that renders templates. Started when first needed, kept for the next rendering, killed
    and forgotten when it breaks a limit. Safe to share between threads, which take turns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._cleanup: weakref.finalize[Any, Any] | None = None

    def render(self, source: str, variables: dict[str, Any], now: list[int]) -> str:
        """The rendered text.

        Raises:
            TemplateError: the template refused, failed, or passed a limit of time, memory, depth or output.
            LimitExceeded: the messages are too large to render.
        """
        request = {"template": source, "variables": variables, "now": now}
        data = json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(data) > MAX_REQUEST_NBYTES:
            raise LimitExceeded("the chat is too large", nbytes=len(data), limit=MAX_REQUEST_NBYTES)
        with self._lock:
            reply = json.loads(self._ask(data).decode("utf-8", "surrogatepass"))
            if reply.get("error") in _WHY:
                self._stop()  # a heap that was nearly full, or a stack that was, is not used again
        return _text_of(reply)

    def close(self) -> None:
        """End the child; the next rendering starts a new one."""
        with self._lock:
            self._stop()

    def _ask(self, data: bytes) -> bytes:
        child = self._child or self._start()
        try:
            return _exchange(child, data, time.monotonic() + WALL_LIMIT_S)
        except (EOFError, OSError) as error:
            status = self._stop()
            raise _broken(status, error) from None
        except BaseException:
            self._stop()  # interrupted half-way: its answer must not be taken for that of the next question
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            close_fds=True,
            bufsize=0,
        )
        self._child = child
        self._cleanup = weakref.finalize(self, _end, child)
        try:
            _exchange(child, None, time.monotonic() + WALL_LIMIT_S)
        except (EOFError, OSError) as error:
            status = self._stop()
            raise Unsupported(
                "chat templates cannot be rendered here",
                "the process that renders them does not start",
                "it needs a POSIX system with resource limits",
                status=status,
                error=str(error),
            ) from None
        return child

    def _stop(self) -> int | None:
        child, self._child = self._child, None
        if self._cleanup is not None:
            self._cleanup()
            self._cleanup = None
        return None if child is None else child.returncode


def _command() -> list[str]:
    if not sys.executable:
        raise Unsupported("chat templates cannot be rendered here", "there is no Python executable to start")
    # Isolated and without site: quick to start, and nothing of the caller's environment takes part.
    limits = [str(MEMORY_LIMIT_NBYTES), str(CPU_LIMIT_S)]
    return [sys.executable, "-I", "-S", str(_WORKER), *limits, *_library_folders()]


def _library_folders() -> list[str]:
    folders = []
    for name in ("jinja2", "markupsafe"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise Unsupported("chat templates cannot be rendered here", f"{name} is not installed")
        folders.append(str(Path(found.origin).parents[1]))
    return sorted(set(folders))


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


def _broken(status: int | None, error: Exception) -> TemplateError:
    if status == -signal.SIGPROF:
        return TemplateError(
            "the chat template was stopped", "it ran longer than its time limit", limit_s=CPU_LIMIT_S
        )
    return TemplateError(
        "the chat template was stopped",
        "it broke the process that renders it",
        status=status,
        error=str(error),
    )


def _text_of(reply: dict[str, Any]) -> str:
    kind = reply.get("error")
    if kind is None:
        return str(reply["text"])
    if kind == "refused":
        raise TemplateError("the chat template refuses these messages", reply["message"])
    if kind in _WHY:
        raise TemplateError("the chat template was stopped", _WHY[kind])
    raise TemplateError(
        "the chat template failed",
        reply["message"],
        "the template may need variables or message fields that were not given",
    )
