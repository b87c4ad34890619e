"""Other programs beside ours: finding them on the PATH, running them, and their memory.

This module imports nothing large: a program that a large process starts would count that process's memory as
its own peak.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

STREAM = """
import sys
from apportion.bench.limits import Bandwidth
threads = int(sys.argv[1])
print(Bandwidth(threads).measure(threads))
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program printed, and the largest memory it had."""

    out: str
    err: str
    peak_rss_bytes: int


def require_program(name: str) -> None:
    """Leave with a hint unless it is on the PATH."""
    if shutil.which(name) is None:
        sys.exit(f"error: {name} is not on the PATH\n  hint: build llama.cpp and add its build/bin to PATH")


def run_program(command: Sequence[object]) -> Finished:
    """Run to the end; leave with the program's own words if it fails."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        program = subprocess.Popen(words, stdout=out, stderr=err)
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        found = Finished(out.read(), err.read(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    if program.returncode:
        sys.exit(f"error: {words[0]} failed ({program.returncode})\n{found.err}{found.out}")
    return found


def streamed_gb_s(threads: int) -> float:
    """GB/s that so many threads read from memory, now."""
    return float(run_program([sys.executable, "-c", STREAM, threads]).out)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def between(rates: dict[str, float]) -> str:
    """`12.3 (11.9 to 12.4)`."""
    return f"{rates['median']:.1f} ({rates['min']:.1f} to {rates['max']:.1f})"


def whole_numbers(text: str) -> list[int]:
    """`512,2048`."""
    return [int(word) for word in text.split(",") if word.strip()]
