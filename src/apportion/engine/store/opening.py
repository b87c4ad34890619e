"""Opening a store's folder: whatever the last process left there, without any repair."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apportion.core.clock import Clock
from apportion.core.disk import Disk, DiskLock
from apportion.core.errors import ApportionError, InUse, NotFound
from apportion.core.fault_points import fault_point
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.store.config import StoreConfig
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.folder import LOCK, segments_in
from apportion.engine.store.open_files import OpenFiles
from apportion.engine.store.reclaim import Victims
from apportion.engine.store.record import VERSION, Record
from apportion.engine.store.scan import Scan
from apportion.engine.store.shelf import Entry, Shelf
from apportion.engine.store.space import Segment, Space
from apportion.engine.store.wear import DayAccount
from apportion.engine.store.writer import Writer
from apportion.policies.retention import RetentionState


class Opened:
    """A folder's segments, what is in them, and, unless it is only read, who writes more.

    Attributes:
        shelf, space, files: what is known of it.
        writer: None in a store that only reads.
    """

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        config: StoreConfig,
        clock: Clock,
        counters: StoreCounters,
        num_scanners: int,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._config = config
        self._clock = clock
        self._counters = counters
        self._numbers: dict[bytes, int] = {}
        self._num_scanners = num_scanners
        self._counting = threading.Lock()
        self._lock: DiskLock | None = None
        self.next_number = 1
        self.shelf = Shelf()
        self.space = Space(disk, folder)
        self.files = OpenFiles(disk, self.space)
        self.writer: Writer | None = None

    def lock(self) -> None:
        """Be the one who writes.

        Raises:
            InUse: somebody else is.
        """
        self._disk.make_folder(self._folder)
        self._lock = self._disk.lock(self._folder / LOCK)
        if self._lock is None:
            raise InUse(
                f"another process writes to the store {self._folder}",
                "one at a time does",
                "end it, or give this one a folder of its own",
            )
        fault_point("open.locked")

    def look(self) -> None:
        """Find what is there.

        Raises:
            DiskFault: the folder cannot be listed.
        """
        ours = []
        for name, nbytes in segments_in(self._disk, self._folder):
            self.space.note(name.number)
            if nbytes is None:
                continue
            segment = Segment(name, nbytes)
            if name.version != VERSION or name.number in self.space.segments:
                self.space.add_foreign(segment)
                self._counters.foreign += 1
            else:
                self.space.add(segment)
                ours.append(segment)
        self._scan_all(ours)
        fault_point("open.scanned")

    def look_again(self) -> None:
        """Find what was written since, and forget what is gone."""
        found = {name.number: (name, nbytes or 0) for name, nbytes in segments_in(self._disk, self._folder)}
        for number, segment in list(self.space.segments.items()):
            if number not in found:
                self.space.forget(segment)
                self.shelf.drop_all(self.shelf.in_segment(number))
        for number, (name, nbytes) in found.items():
            segment = self.space.segments.get(number, Segment(name, 0))
            if name.version == VERSION and nbytes > segment.nbytes:
                segment.nbytes, segment.name = nbytes, name
                self.space.add(segment)
                self._scan_all([segment])

    def seal_leftovers(self) -> None:
        """End the segments that the last process left open; they are never added to."""
        for segment in list(self.space.segments.values()):
            if segment.name.is_sealed:
                continue
            try:
                if segment.scanned or not segment.is_readable:
                    self.space.seal(segment)
                else:
                    self.space.remove(segment)
                fault_point("open.leftover_sealed")
            except ApportionError:
                self._counters.write_faults += 1  # it goes on under the name that it has

    def close(self) -> None:
        """Close every file; let others write."""
        if self.writer is not None:
            self.writer.close()
        self.files.close()
        self.unlock()

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _scan_all(self, segments: Sequence[Segment]) -> None:
        """Put on the shelf what segments hold beyond what was seen of them, several at once: headers lie far
        apart, and each takes the disk as long as the next.
        """
        if self._num_scanners > 1 and len(segments) > 1:
            with ThreadPoolExecutor(self._num_scanners, "scan-kv") as threads:
                found = list(threads.map(self._scan, segments))
        else:
            found = [self._scan(segment) for segment in segments]
        for segment, records in zip(segments, found, strict=True):
            for offset, record in records:
                self._add(record, segment, offset)

    def _scan(self, segment: Segment) -> list[tuple[int, Record]]:
        """A segment's records. One that cannot be read is left alone: its room counts, and is reclaimed like
        any other.
        """
        records: list[tuple[int, Record]] = []
        try:
            with self._disk.open(self.space.path(segment)) as file:
                scan = Scan(file, segment.scanned, segment.nbytes)
                records += scan.records()
        except NotFound:
            self.space.forget(segment)
            return []
        except ApportionError:
            self._count(read_faults=1)
            segment.is_readable = False
            return records
        segment.scanned = scan.end
        self._count(damaged_stretches=scan.num_damaged, foreign=scan.num_foreign)
        return records

    def _count(self, read_faults: int = 0, damaged_stretches: int = 0, foreign: int = 0) -> None:
        with self._counting:
            self._counters.read_faults += read_faults
            self._counters.damaged_stretches += damaged_stretches
            self._counters.foreign += foreign

    def _add(self, record: Record, segment: Segment, offset: int) -> None:
        self.next_number = max(self.next_number, record.number + 1)
        config = self._config
        if record.fingerprint != config.fingerprint or record.payload_nbytes != config.block_nbytes:
            self._counters.foreign += 1
        elif not record.is_dead:
            age_s = max(self._clock.wall() - record.written_s, 0.0)
            self.shelf.add(Entry.of(record, segment.number, offset, self._clock.now() - age_s))


def open_folder(
    disk: Disk,
    folder: Path,
    config: StoreConfig,
    clock: Clock,
    retention: RetentionState,
    cost: BlockCost,
    counters: StoreCounters,
    changed: threading.Condition,
    read_only: bool,
    num_scanners: int,
) -> Opened:
    """The folder, as a store uses it; `num_scanners` segments are looked through at once.

    Raises:
        InUse: another process writes to it.
        DiskFault: it cannot be used.
    """
    opened = Opened(disk, folder, config, clock, counters, num_scanners)
    if read_only:
        opened.look()
        return opened
    opened.lock()
    try:
        opened.look()
        opened.seal_leftovers()
        account = None
        if config.writes_per_day_nbytes is not None:
            limit, step = config.writes_per_day_nbytes, config.segment_room
            account = DayAccount(disk, folder, clock, limit, step)
    except BaseException:
        opened.unlock()
        raise
    victims = Victims(opened.shelf, retention, cost, clock)
    opened.writer = Writer(
        disk,
        opened.space,
        opened.shelf,
        opened.files,
        config,
        victims,
        clock,
        counters,
        changed,
        account,
        opened.next_number,
    )
    opened.writer.keep_within_limit()
    return opened
