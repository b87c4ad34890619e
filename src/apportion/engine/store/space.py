"""The segments of a store's folder, and the bytes that they take."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from apportion.core.disk import Disk
from apportion.core.errors import NotFound
from apportion.core.fault_points import fault_point
from apportion.engine.store.folder import SMALL_FILES_NBYTES, SegmentName


@dataclass(slots=True)
class Segment:
    """A file. `nbytes` is never less than its size; `scanned` is how far it was looked through, and
    `is_readable` whether that went well.
    """

    name: SegmentName
    nbytes: int
    scanned: int = 0
    is_readable: bool = True

    @property
    def number(self) -> int:
        return self.name.number

    def sealed(self) -> Segment:
        """The same under the name that it has when it is sealed."""
        return Segment(SegmentName(self.number), self.nbytes, self.scanned)


class Space:
    """Every segment file that was found or made, ours and those of other versions.

    Changed by the thread that writes, or, in a store that only reads, by the one that looks again.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self.segments: dict[int, Segment] = {}
        self.foreign: list[Segment] = []
        self._highest_number = 0

    @property
    def used_nbytes(self) -> int:
        """On disk, what is written beside the segments included."""
        everything = [*self.segments.values(), *self.foreign]  # a copy: another thread may add to it
        return sum(segment.nbytes for segment in everything) + SMALL_FILES_NBYTES

    @property
    def next_number(self) -> int:
        """One that no file is known to have had: a new segment never takes the place of an old one."""
        return self._highest_number + 1

    def path(self, segment: Segment) -> Path:
        return self._folder / str(segment.name)

    def add(self, segment: Segment) -> None:
        self.segments[segment.number] = segment
        self.note(segment.number)

    def note(self, number: int) -> None:
        """There is, or was, a segment of this number."""
        self._highest_number = max(self._highest_number, number)

    def add_foreign(self, segment: Segment) -> None:
        """One of another version, or a second one with the same number: it is not used, but takes room."""
        self.foreign.append(segment)
        self.note(segment.number)

    def seal(self, segment: Segment) -> None:
        """Say by its name that nothing will be added to it.

        Raises:
            DiskFault: the name could not be changed, or may not survive a power cut.
        """
        sealed = SegmentName(segment.number)
        fault_point("seal.begun")
        self._disk.rename(self.path(segment), self._folder / str(sealed))
        segment.name = sealed
        fault_point("seal.renamed")
        self._disk.sync_folder(self._folder)
        fault_point("seal.synced")

    def remove(self, segment: Segment) -> None:
        """Give its bytes back.

        Raises:
            DiskFault: it could not be removed, and still counts.
        """
        with suppress(NotFound):  # somebody else was quicker
            self._disk.remove(self.path(segment))
        fault_point("reclaim.removed")
        self.forget(segment)

    def forget(self, segment: Segment) -> None:
        """It is there no more."""
        if self.segments.get(segment.number) is segment:
            del self.segments[segment.number]
        elif segment in self.foreign:
            self.foreign.remove(segment)

    def sync(self) -> None:
        """Make what was removed and named safe."""
        self._disk.sync_folder(self._folder)
