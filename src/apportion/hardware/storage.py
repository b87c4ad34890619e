"""The file system and the device below a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Where a path lies. What the system does not tell is empty, 0 or None.

    Args:
        device: major and minor number, `259:2`; what profiles are kept by.
        kind: `ext4`, `xfs`, `overlay`.
        free_nbytes: what we could write.
        rotational: whether the device has a head that moves.
        read_ahead_nbytes: what the page cache reads ahead, for those who read through it.
    """

    device: str
    mount: str
    kind: str
    source: str
    free_nbytes: int
    rotational: bool | None
    read_ahead_nbytes: int | None


def file_system(path: Path, root: Path = Path("/")) -> FileSystem:
    """The file system that holds `path`.

    Args:
        root: the folder that holds `proc` and `sys`.

    Raises:
        OSError: there is no such path.
    """
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    mount, kind, source = _mounted(root / "proc/self/mountinfo", device)
    queue = _queue(root / "sys/dev/block" / device)
    room = os.statvfs(path)
    rotational, ahead = _word(queue / "rotational"), _word(queue / "read_ahead_kb")
    return FileSystem(
        device=device,
        mount=mount,
        kind=kind,
        source=source,
        free_nbytes=room.f_bavail * room.f_frsize,
        rotational=rotational == "1" if rotational else None,
        read_ahead_nbytes=int(ahead) * 1024 if ahead.isdecimal() else None,
    )


def _mounted(mountinfo: Path, device: str) -> tuple[str, str, str]:
    """(mount point, kind, source) of a device, at the place where most of it is mounted."""
    found = []
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) >= 5 and fields[2] == device and len(kinds) >= 2:
            found.append((len(fields[3]), fields[4], kinds[0], kinds[1]))
    return min(found)[1:] if found else ("", "", "")


def _queue(block: Path) -> Path:
    """The settings of a device; a partition has those of the disk it is on."""
    return block / "queue" if (block / "queue").is_dir() else block / "../queue"


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
