"""Programs inside a limit of memory: a control group where one can be made, a time that they may take, and
what they took.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))  # version 2, version 1
LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")
PEAK_FILES = ("memory.peak", "memory.max_usage_in_bytes")
LOOK_S = 0.05  # between two looks at a running program

Outcome: TypeAlias = Literal["done", "killed", "unfinished", "failed"]


@dataclass(frozen=True, slots=True)
class Run:
    """A program that ran.

    Attributes:
        outcome: unfinished: its time was over; killed: by the system, for its memory.
        peak_rss_bytes: of the process (VmHWM); pages of mapped files are among it.
        group_peak_bytes: of the control group, pages cached for it among that; None where there was none.
        read_bytes: that came from the disk for it; 0 where the system does not say.
    """

    outcome: Outcome
    out: str
    err: str
    seconds: float
    peak_rss_bytes: int
    group_peak_bytes: int | None
    read_bytes: int


def run_limited(command: Sequence[object], group: Path | None, timeout_s: float) -> Run:
    """Run a program, inside a control group if one is given, and end it when its time is over."""
    words = [str(word) for word in command]
    if group is not None:  # the shell enters the group and becomes the program
        words = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *words]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        program = subprocess.Popen(words, stdout=out, stderr=err)
        status, peak, read, over = _watch(program.pid, began + timeout_s)
        program.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        outcome = outcome_of(program.returncode, over)
        return Run(outcome, out.read(), err.read(), seconds, peak, peak_of(group), read)


def outcome_of(returncode: int, over: bool) -> Outcome:
    if over:
        return "unfinished"
    if returncode == -signal.SIGKILL:
        return "killed"
    return "failed" if returncode else "done"


def _watch(pid: int, until: float) -> tuple[int, int, int, bool]:
    """Wait for a program: its exit status, peak memory, bytes read, and whether its time was over."""
    peak = read = 0
    over = False
    while True:
        # The last figure, not the largest: before it runs the program, a child is as large as its parent.
        peak = number_in(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 or peak
        read = max(read, number_in(Path(f"/proc/{pid}/io"), "read_bytes"))
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, peak or usage.ru_maxrss * 1024, max(read, usage.ru_inblock * 512), over
        if time.monotonic() > until and not over:
            over = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def number_in(path: Path, name: str) -> int:
    """Of a line `name: number`; 0 where there is none."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass  # it ended meanwhile, or is not ours
    return 0


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """A control group whose programs have `limit` bytes together; None where none can be made."""
    group = _made(limit)
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _made(limit: int) -> Path | None:
    for parent in GROUPS:
        group = parent / f"apportion-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        for name in LIMIT_FILES:
            try:
                if (group / name).exists():
                    (group / name).write_text(str(limit))
                    return group
            except OSError:
                continue
        group.rmdir()
    return None


def _remove(group: Path) -> None:
    for _ in range(100):
        try:
            group.rmdir()
        except OSError:  # the last program is not quite gone
            time.sleep(0.1)
        else:
            return


def peak_of(group: Path | None) -> int | None:
    """The most memory that a group ever had; None where the system does not say."""
    for name in PEAK_FILES if group is not None else ():
        assert group is not None
        if (group / name).exists():
            return int((group / name).read_text())
    return None


def forget(path: Path) -> None:
    """Drop what is cached of a file, so that the next to read it finds it on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
