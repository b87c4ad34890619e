"""Limits of the container, of memory and of processors' time: control groups of both versions, nested, as the
process sees them.

A group is bound by the tightest limit among itself and all groups around it. What is cached from files counts
as used by a group, but is given up before anything fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 2**60  # version 1 writes no limit as the largest number that is a multiple of a page
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """The memory of one group that has a limit. Sizes in bytes; `reclaimable` is the part of `used` that is
    cached from files and not in use now.
    """

    folder: Path
    limit: int
    used: int
    reclaimable: int

    @property
    def free(self) -> int:
        """What could still be had within the limit."""
        return max(0, self.limit - self.used + self.reclaimable)


def limited_groups(root: Path = Path("/")) -> tuple[GroupMemory, ...]:
    """The groups around this process that have a memory limit, from the inside out. Empty where there are
    none, or no control groups at all.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    found = (_memory(folder, version) for folder, version in _folders(root, "memory"))
    return tuple(group for group in found if group is not None)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many processors' time the groups around this process grant; None: as many as there are.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    found = (_quota(folder, version) for folder, version in _folders(root, "cpu"))
    return min((quota for quota in found if quota is not None), default=None)


def _folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of the groups that control that for us, from the inside out, with their version."""
    for mount, base, version in _hierarchies(root, controller):
        inside = _path_of(root, version, controller)
        if inside is None:
            continue
        try:
            below = PurePosixPath(inside).relative_to(base)
        except ValueError:  # the mount shows another part of the tree: what we see of it is its top
            below = PurePosixPath()
        if ".." in below.parts:
            below = PurePosixPath()
        top = root / mount.lstrip("/")
        folder = top / below
        yield folder, version
        while folder != top:
            folder = folder.parent
            yield folder, version


def _hierarchies(root: Path, controller: str) -> Iterator[tuple[str, str, int]]:
    """(mount point, its root in the hierarchy, version) of each mounted tree that may have the controller."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if not separator or len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            yield _unescaped(fields[4]), _unescaped(fields[3]), 2
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            yield _unescaped(fields[4]), _unescaped(fields[3]), 1


def _path_of(root: Path, version: int, controller: str) -> str | None:
    """Our place in the tree of that version."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (version == 2 and number == "0") or (version == 1 and controller in controllers.split(",")):
            return path
    return None


def _memory(folder: Path, version: int) -> GroupMemory | None:
    names = ("memory.max", "memory.current") if version == 2 else _VERSION_1
    limit, used = (_number(folder / name) for name in names)
    if limit is None or limit >= UNLIMITED:
        return None
    statistics = dict(line.split()[:2] for line in _lines(folder / "memory.stat") if len(line.split()) >= 2)
    key = "inactive_file" if version == 2 else "total_inactive_file"
    cached = statistics.get(key, "0")
    return GroupMemory(folder, limit, used or 0, int(cached) if cached.isdecimal() else 0)


def _quota(folder: Path, version: int) -> float | None:
    """Processors' worth of time in each period."""
    if version == 2:
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        words = [
            " ".join(_lines(folder / name)).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    if len(words) != 2 or not (words[0].isdecimal() and words[1].isdecimal()):
        return None
    quota, period = int(words[0]), int(words[1])
    return quota / period if quota and period else None


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, and where there is none."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """A path as mountinfo writes it: spaces and the like as octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
