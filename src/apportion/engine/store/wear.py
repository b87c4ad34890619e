"""The account of a day's writes, for the sake of disks that wear with every one of them."""

from __future__ import annotations

import threading
from pathlib import Path

from apportion.core.clock import Clock
from apportion.core.disk import Disk, read_exactly, write_all
from apportion.core.errors import BadFile, NotFound
from apportion.core.fault_points import fault_point
from apportion.engine.store.folder import ACCOUNT
from apportion.engine.store.record import checksum

_DAY_S = 86_400
_TEXT_NBYTES = 64


class DayAccount:
    """How much may still be written today (UTC). Safe to use from several threads.

    Bytes are claimed on disk before they are written, in steps, and what was not needed is given back on
    closing: a process that is killed has written no more than the account says.

    Args:
        limit_nbytes: for each day.
        step_nbytes: claimed at once.

    Raises:
        DiskFault: the account cannot be read.
    """

    def __init__(self, disk: Disk, folder: Path, clock: Clock, limit_nbytes: int, step_nbytes: int) -> None:
        self._disk = disk
        self._folder = folder
        self._clock = clock
        self._limit = limit_nbytes
        self._step = step_nbytes
        self._lock = threading.Lock()
        self._day, self._claimed = self._read()
        self._spent = self._claimed

    @property
    def left_nbytes(self) -> int:
        """Bytes that may be written today."""
        with self._lock:
            self._turn_page()
            return max(self._limit - self._spent, 0)

    def spend(self, nbytes: int) -> bool:
        """Write so much: False, and nothing changed, when that is more than is left.

        Raises:
            DiskFault: the account cannot be written.
        """
        with self._lock:
            self._turn_page()
            if self._spent + nbytes > self._limit:
                return False
            if self._spent + nbytes > self._claimed:
                self._write(min(self._limit, self._spent + max(self._step, nbytes)))
            self._spent += nbytes
            return True

    def close(self) -> None:
        """Give back what was claimed and not written.

        Raises:
            DiskFault: the account cannot be written; the claim then stands.
        """
        with self._lock:
            if self._spent != self._claimed:
                self._write(self._spent)

    def _turn_page(self) -> None:
        # A clock that is set back does not bring a day back.
        today = int(self._clock.wall() // _DAY_S)
        if today > self._day:
            self._day, self._spent, self._claimed = today, 0, 0

    def _read(self) -> tuple[int, int]:
        text = bytearray(_TEXT_NBYTES)
        try:
            with self._disk.open(self._folder / ACCOUNT) as file:
                read_exactly(file, text, 0)
            return _parse(bytes(text))
        except NotFound:
            return 0, 0
        except BadFile:  # nobody knows what was written: take it that everything was
            return int(self._clock.wall() // _DAY_S), self._limit

    def _write(self, claimed: int) -> None:
        new = self._folder / f"{ACCOUNT}.new"
        with self._disk.open(new, "create") as file:
            write_all(file, _format(self._day, claimed), 0)
            file.fdatasync()
        fault_point("wear.written")
        self._disk.rename(new, self._folder / ACCOUNT)
        fault_point("wear.renamed")
        self._disk.sync_folder(self._folder)
        self._claimed = claimed


def _format(day: int, claimed: int) -> bytes:
    text = b"%d %d " % (day, claimed)
    return (text + checksum(text).hex().encode() + b"\n").ljust(_TEXT_NBYTES)[:_TEXT_NBYTES]


def _parse(text: bytes) -> tuple[int, int]:
    try:
        day, claimed, total = text.split()
        if checksum(b"%s %s " % (day, claimed)).hex().encode() == total:
            return int(day), int(claimed)
    except ValueError:
        pass
    raise BadFile("the account of the day's writes is damaged")
