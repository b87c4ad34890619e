"""The program itself, as a process of its own: `apportion serve` of a tiny model."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_S = 60.0


class Program:
    """A server process.

    Attributes:
        lines: what it wrote to stderr so far.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stderr is not None:
            self.lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        found = self.until(lambda: re.search(r"listening at (http://\S+)", self.text))
        return str(found[1])

    def until(self, look: Callable[[], Any]) -> Any:
        """What is looked for, once it is there."""
        give_up = time.monotonic() + START_S
        while not (found := look()):
            assert time.monotonic() < give_up, self.text
            assert self.process.poll() is None or look(), (
                f"it ended with {self.process.returncode}: {self.text}"
            )
            time.sleep(0.02)
        return found

    def ready(self) -> str:
        """Its address, once a model is loaded."""
        url = self.url
        self.until(lambda: httpx.get(f"{url}/ready", timeout=START_S).status_code == 200)
        return url

    def tell(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ends(self, within_s: float = 20) -> int:
        """The status that it ends with."""
        status = self.process.wait(within_s)
        self._reader.join(5)
        return status


@contextmanager
def program(
    model: Path,
    *arguments: str,
    env: Mapping[str, str | None] | None = None,
    files: int | None = None,
    stdin: int | None = subprocess.DEVNULL,
    **more: Any,
) -> Iterator[Program]:
    """A server of a model at a port of its own; it is ended if the test has not done that.

    Args:
        env: variables that are set, or where None unset.
        files: file descriptors that it may have.
    """
    whole = dict(os.environ)
    for name, value in (env or {}).items():
        whole.pop(name, None) if value is None else whole.update({name: value})

    def limits() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    command = [
        sys.executable,
        "-m",
        "apportion",
        "serve",
        str(model),
        "--offline",
        "--threads",
        "1",
        *arguments,
    ]
    if "--port" not in arguments:
        command += ["--port", "0"]
    process = subprocess.Popen(
        command,
        env=whole,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        **{"stderr": subprocess.PIPE, "text": True, "preexec_fn": limits, **more},
    )
    running = Program(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
        if process.stderr is not None:
            process.stderr.close()
