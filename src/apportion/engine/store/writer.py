"""Writing blocks so that none is known before it is safe, within the limit, and with room made for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from apportion.core.clock import Clock
from apportion.core.disk import Disk, read_exactly, write_all
from apportion.core.errors import ApportionError, BadFile
from apportion.core.fault_points import fault_point
from apportion.engine.store.appender import Appender
from apportion.engine.store.config import StoreConfig
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.open_files import OpenFiles
from apportion.engine.store.pending import Pending
from apportion.engine.store.reclaim import Victims
from apportion.engine.store.record import HEADER_NBYTES, Record, checksum, decode
from apportion.engine.store.shelf import Entry, Shelf
from apportion.engine.store.space import Segment, Space
from apportion.engine.store.staging import Bytes, Staging
from apportion.engine.store.wear import DayAccount

_RETIRE_S = 5.0  # readers are given that long to leave a segment
_MOST_FAILURES = 3  # in a row; then the store writes no more
_FINAL = frozenset({"ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM"})


class Writer:
    """The one who changes the segments; `lock` guards the shelf and the counters, which others read.

    Attributes:
        why_off: why it writes no more; None as long as it does.
        is_worn_out: a block was refused since the day's writes are used up.
    """

    def __init__(
        self,
        disk: Disk,
        space: Space,
        shelf: Shelf,
        files: OpenFiles,
        config: StoreConfig,
        victims: Victims,
        clock: Clock,
        counters: StoreCounters,
        lock: threading.Condition,
        account: DayAccount | None,
        next_number: int,
    ) -> None:
        self._disk = disk
        self._space = space
        self._shelf = shelf
        self._files = files
        self._config = config
        self._victims = victims
        self._clock = clock
        self._counters = counters
        self._lock = lock
        self._account = account
        self._next_number = next_number
        self._appender = Appender(disk, space, config.segment_room)
        self._mover = Staging(config.record_nbytes, 1)
        self._written: list[tuple[Entry, Pending | None]] = []
        self._unremovable: set[int] = set()
        self._failures = 0
        self.why_off: ApportionError | None = None
        self.is_worn_out = False

    def write(self, batch: Sequence[tuple[Pending, Bytes]]) -> None:
        """Make blocks safe and known; those that are then have `is_safe`. Raises nothing: what fails is
        counted, and ends the segment that it happened to.

        Args:
            batch: each with its staging slot's bytes, into which the header is put.
        """
        try:
            for block, place in batch:
                if self.why_off is None:
                    self._write_block(block, place)
            self._commit()
        except ApportionError as error:
            self._give_up(error)

    def has_recovered(self) -> bool:
        """Whether a new day has come with writes of its own."""
        return self._account is None or self._account.left_nbytes >= self._config.record_nbytes

    def keep_within_limit(self) -> None:
        """Reclaim segments where the limit is smaller than it was."""
        try:
            self._make_room(0)
        except ApportionError as error:
            self._give_up(error)

    def mark_dead(self, entries: Sequence[Entry]) -> None:
        """See to it that these are not found again after a restart either. They are forgotten already."""
        for entry in entries:
            segment = self._space.segments.get(entry.segment)
            if segment is None:
                continue
            try:
                self._mark_dead(self._space.path(segment), entry)
            except BadFile:
                continue  # its header is damaged, too: nobody will find it
            except ApportionError:
                self._count_fault()

    def close(self) -> None:
        """Seal what was written and settle the account."""
        try:
            self._commit()
            self._appender.seal()
            fault_point("close.sealed")
            if self._account is not None:
                self._account.close()
        except ApportionError as error:
            self._give_up(error)

    def _write_block(self, block: Pending, place: Bytes) -> None:
        if not self._make_room(place.nbytes) or not self._spend(place.nbytes):
            return
        payload = place[HEADER_NBYTES : HEADER_NBYTES + self._config.block_nbytes]
        record = Record(
            self._next_number,
            self._clock.wall(),
            self._config.fingerprint,
            block.key,
            block.parent,
            block.num_before,
            block.ids,
            payload.nbytes,
            checksum(payload.data),
        )
        self._append(record, place, self._clock.now(), block)

    def _append(self, record: Record, place: Bytes, last_use_s: float, block: Pending | None) -> None:
        if not self._appender.has_room(place.nbytes):
            self._commit()
            self._appender.seal()
            self._appender.begin()
        place[:HEADER_NBYTES] = np.frombuffer(record.encode(), np.uint8)
        segment, offset = self._appender.write(place.data)
        self._next_number += 1
        self._written.append((Entry.of(record, segment, offset, last_use_s), block))

    def _commit(self) -> None:
        """Make safe what was written, then known."""
        if not self._written:
            return
        self._appender.sync()
        with self._lock:
            for entry, block in self._written:
                self._shelf.add(entry)
                self._counters.nbytes_written += self._config.record_nbytes
                if block is not None:
                    block.is_safe = True
                    self._counters.written += 1
            self._counters.commits += 1
        self._written.clear()
        self._failures = 0
        fault_point("commit.published")

    def _spend(self, nbytes: int) -> bool:
        spent = self._account is None or self._account.spend(nbytes)
        self.is_worn_out = not spent
        return spent

    def _make_room(self, nbytes: int) -> bool:
        """Reclaim segments until so much fits, and what moves along with the next one does, too."""
        fault_point("room.begun")
        reserve = self._config.segment_room // 4
        while self._space.used_nbytes + nbytes + reserve > self._config.limit_nbytes:
            if not self._reclaim():
                break
        return self._space.used_nbytes + nbytes <= self._config.limit_nbytes

    def _reclaim(self) -> bool:
        """Give up one segment; False when there is none that can go."""
        self._commit()
        victim = self._choose()
        if victim is None:
            return False
        fault_point("reclaim.chosen")
        if victim.number in self._space.segments:
            self._move(victim)
            self._forget_blocks(victim)
        fault_point("reclaim.forgotten")
        return self._remove(victim)

    def _choose(self) -> Segment | None:
        foreign = [segment for segment in self._space.foreign if segment.number not in self._unremovable]
        if foreign:
            return foreign[0]
        active = self._appender.segment
        return self._victims.choose(
            segment
            for segment in self._space.segments.values()
            if segment is not active and segment.number not in self._unremovable
        )

    def _move(self, victim: Segment) -> None:
        """Write once more what of the victim is worth it and fits beside it."""
        room = self._config.limit_nbytes - self._space.used_nbytes
        for entry in self._victims.worth_moving(victim, room):
            place = self._mover.view(0)[: entry.nbytes]
            record = self._read_whole(entry, place)
            if record is not None and self._spend(entry.nbytes):
                self._append(record, place, entry.last_use_s, None)
                self._counters.moved += 1
        self._commit()
        fault_point("reclaim.moved")

    def _read_whole(self, entry: Entry, place: Bytes) -> Record | None:
        """The entry's record with a new number, its payload in `place`; None when it cannot be used."""
        try:
            with self._files.borrow(entry.segment) as file:
                read_exactly(file, place.data, entry.offset)
            record = decode(place[:HEADER_NBYTES].tobytes())
        except ApportionError:
            return None
        payload = place[HEADER_NBYTES : HEADER_NBYTES + entry.payload_nbytes]
        if record.key != entry.key or checksum(payload.data) != entry.payload_sum:
            return None
        return record.renumbered(self._next_number)

    def _forget_blocks(self, victim: Segment) -> None:
        with self._lock:
            self._counters.dropped += self._shelf.drop_all(self._shelf.in_segment(victim.number))

    def _remove(self, victim: Segment) -> bool:
        if not self._files.retire(victim.number, _RETIRE_S):
            self._unremovable.add(victim.number)
            return True  # the next one may go
        try:
            self._space.remove(victim)
        except ApportionError:
            self._unremovable.add(victim.number)
            self._count_fault()
            return True
        self._counters.reclaimed += 1
        self._space.sync()
        fault_point("reclaim.synced")
        return True

    def _mark_dead(self, path: Path, entry: Entry) -> None:
        with self._disk.open(path, "write") as file:
            header = bytearray(HEADER_NBYTES)
            read_exactly(file, header, entry.offset)
            record = decode(bytes(header))
            if record.key == entry.key:
                write_all(file, record.dead().encode(), entry.offset)
                fault_point("dead.written")
                file.fdatasync()

    def _give_up(self, error: ApportionError) -> None:
        """After a failure nothing is known of the segment's end: nothing is added to it any more."""
        segment = self._appender.segment
        with suppress(ApportionError):
            self._appender.give_up(segment is None or not self._shelf.in_segment(segment.number))
        self._written.clear()
        self._count_fault()
        self._counters.poisoned += 1
        self._failures += 1
        if self._failures >= _MOST_FAILURES or error.numbers.get("errno") in _FINAL:
            self.why_off = error

    def _count_fault(self) -> None:
        self._counters.write_faults += 1
