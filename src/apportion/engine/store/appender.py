"""The segment that is being written."""

from __future__ import annotations

from contextlib import suppress

from apportion.core.disk import Buffer, Disk, DiskFile, write_all
from apportion.core.errors import ApportionError
from apportion.core.fault_points import fault_point
from apportion.engine.store.folder import SegmentName
from apportion.engine.store.space import Segment, Space


class Appender:
    """Writes records one behind the other, into a new segment whenever one is full. For one thread.

    What fails makes the segment unfit for more: the caller gives it up, and what was written since the last
    `sync` counts as lost.
    """

    def __init__(self, disk: Disk, space: Space, segment_nbytes: int) -> None:
        self._disk = disk
        self._space = space
        self._segment_nbytes = segment_nbytes
        self._file: DiskFile | None = None
        self.segment: Segment | None = None

    def has_room(self, nbytes: int) -> bool:
        """Whether a record goes into the segment that is open."""
        return self.segment is not None and self.segment.nbytes + nbytes <= self._segment_nbytes

    def begin(self) -> None:
        """Open a new segment, whose name is safe before anything lies in it.

        Raises:
            DiskFault: it could not be made.
        """
        assert self._file is None
        segment = Segment(SegmentName(self._space.next_number, is_sealed=False), 0)
        self._file = self._disk.open(self._space.path(segment), "create")
        self.segment = segment
        self._space.add(segment)
        fault_point("segment.created")
        self._disk.sync_folder(self._space.path(segment).parent)
        fault_point("segment.named")

    def write(self, record: Buffer) -> tuple[int, int]:
        """Append a whole record; the segment's number and the record's offset in it.

        Raises:
            DiskFault: it was not written, or not whole.
        """
        assert self._file is not None
        assert self.segment is not None
        offset = self.segment.nbytes
        self.segment.nbytes += len(record)  # before it is so: what a failed write leaves takes room, too
        fault_point("record.begun")
        write_all(self._file, record, offset)
        fault_point("record.written")
        return self.segment.number, offset

    def sync(self) -> None:
        """Make what was written safe. After a failure nobody knows what is: it is never tried again.

        Raises:
            DiskFault: it may not be safe.
        """
        if self._file is not None:
            fault_point("commit.begun")
            self._file.fdatasync()
            fault_point("commit.synced")

    def seal(self) -> None:
        """End the segment, all of which was synced.

        Raises:
            DiskFault: its new name is not safe. It is ended all the same.
        """
        segment = self.segment
        if segment is not None:
            self._close()
            self._space.seal(segment)

    def give_up(self, is_empty: bool) -> None:
        """End the segment after a failure; remove it if nothing of it counts."""
        segment = self.segment
        self._close()
        if segment is not None and is_empty:
            with suppress(ApportionError):  # it then keeps its bytes, and is reclaimed before others
                self._space.remove(segment)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self.segment = None
