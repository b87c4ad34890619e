"""Where a figure comes from: the machine, the program, the day. A figure without these is an opinion."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apportion
from apportion.hardware.memory import memory_limits
from apportion.kernels import available_isas
from apportion.kernels.native import available_threads


@dataclass(frozen=True, slots=True)
class Provenance:
    """What stands beside figures.

    Attributes:
        processor: its name as the system has it.
        processors: how many this process may use.
        memory_bytes: of the whole machine; 0 where the system does not say.
        commit: of the work tree that the package is run from; empty for an installed package.
        date: in UTC, ISO 8601, to the minute.
        load_average: of the last five minutes, the measurement's own threads included: where it is well above
            their number, other work has slowed it down. 0 where the system does not say.
    """

    processor: str
    processors: int
    isas: list[str]
    memory_bytes: int
    system: str
    version: str
    commit: str
    date: str
    load_average: float


def provenance() -> Provenance:
    return Provenance(
        processor_name(),
        available_threads(),
        available_isas(),
        memory_limits().total,
        f"{platform.system()} {platform.release()}",
        apportion.__version__,
        commit_of(Path(apportion.__file__)),
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        load_average(),
    )


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no /proc here
    return platform.processor() or platform.machine()


def load_average() -> float:
    try:
        return os.getloadavg()[1]
    except (AttributeError, OSError):
        return 0.0


def commit_of(path: Path) -> str:
    """The commit that is checked out in the git work tree around a path, 12 digits; empty outside of one."""
    for folder in path.resolve().parents:
        git = folder / ".git"
        if git.is_dir():
            try:
                return _head(git)[:12]
            except (OSError, UnicodeDecodeError):
                return ""
    return ""


def _head(git: Path) -> str:
    """What HEAD names: a commit, or a reference that stands in a file of its own or among the packed ones."""
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    if (git / name).is_file():
        return (git / name).read_text().strip()
    for line in (git / "packed-refs").read_text().splitlines():
        if line.endswith(f" {name}"):
            return line.split()[0]
    return ""
