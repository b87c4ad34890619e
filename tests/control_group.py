"""The memory control groups that tests hold a process to; the fixture `group` makes one."""

from __future__ import annotations

from pathlib import Path


def limit_file(group: Path) -> Path:
    """Where the group's limit is written."""
    new = group / "memory.max"
    return new if new.exists() else group / "memory.limit_in_bytes"
