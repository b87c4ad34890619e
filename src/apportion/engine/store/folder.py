"""A store's folder: which files are ours, and what they are called.

`segment-00000007.kv1` is a segment, the digit at the end the format's version, and `.open` behind it says
that it was not sealed; `lock` is held by the one who writes; `written` is the account of the day's writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from apportion.core.disk import Disk
from apportion.core.errors import NotFound
from apportion.engine.store.record import VERSION

LOCK = "lock"
ACCOUNT = "written"
SMALL_FILES_NBYTES = 12 << 10  # the lock, the account and its next version, in whole blocks of the disk
_OPEN = ".open"
_NAME = re.compile(r"segment-([0-9]{8,18})\.kv([0-9]{1,6})(\.open)?")


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A segment's file name."""

    number: int
    version: int = VERSION
    is_sealed: bool = True

    def __str__(self) -> str:
        return f"segment-{self.number:08d}.kv{self.version}" + ("" if self.is_sealed else _OPEN)

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """The name that `text` is, or None."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        name = cls(int(match[1]), int(match[2]), match[3] is None)
        return name if str(name) == text else None


def segments_in(disk: Disk, folder: Path) -> list[tuple[SegmentName, int | None]]:
    """Every segment of the folder with its bytes (None: it is gone already), in the order of numbers. Other
    files are none of ours.
    """
    found: list[tuple[SegmentName, int | None]] = []
    for text in disk.listdir(folder):
        name = SegmentName.parse(text)
        if name is None:
            continue
        try:
            found.append((name, disk.size(folder / text)))
        except NotFound:  # its writer has sealed it, or given it up, since the folder was listed
            found.append((name, None))
    return sorted(found, key=lambda pair: (pair[0].number, pair[0].version, not pair[0].is_sealed))
