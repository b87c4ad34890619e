"""The reader: asynchronous reads of stretches of files, past the page cache, into slots of an arena.

Reads are carried out by the kernel's ring of asynchronous calls (io_uring) or, where that is missing or
forbidden, by a few threads. Direct reads cover whole blocks of 4096 bytes, so a stretch that begins inside a
block lands that far into its place: `Part.first` says where its first byte is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NewType, Self, TypeAlias

from apportion import _native
from apportion.core.disk import fault
from apportion.core.errors import ApportionError, BadFile, DiskStuck, FileChanged, Truncated
from apportion.core.spacing import spaced
from apportion.core.units import MiB
from apportion.memory.arena import Arena, Slot
from apportion.memory.faults import ReadFault

BLOCK_NBYTES = _native.BLOCK_NBYTES
CHUNK_NBYTES = MiB  # several of them keep a disk busy, and what was asked for first comes first

Ticket = NewType("Ticket", int)
Priority: TypeAlias = Literal["demand", "prefetch"]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file and its place in a slot.

    Args:
        file: the number that `Reader.open` gave.
        offset: of the first byte in the file.
        nbytes: how many.
        place: where in the slot its first block goes, a multiple of 4096.
    """

    file: int
    offset: int
    nbytes: int
    place: int = 0

    @property
    def first(self) -> int:
        """Where in the slot its first byte lands."""
        return self.place + self.offset % BLOCK_NBYTES

    @property
    def room(self) -> int:
        """Bytes of the slot that it needs from `place` on: whole blocks."""
        return room_for(self.offset, self.nbytes)

    @property
    def native(self) -> tuple[int, int, int, int]:
        """The same for the core."""
        return (self.file, self.offset, self.nbytes, self.place)


def room_for(offset: int, nbytes: int) -> int:
    """Bytes of all blocks that the stretch [offset, offset + nbytes) of a file touches."""
    first, last = offset // BLOCK_NBYTES, -(-(offset + nbytes) // BLOCK_NBYTES)
    return (last - first) * BLOCK_NBYTES


def parts_in_a_row(stretches: Iterable[tuple[int, int, int]]) -> tuple[Part, ...]:
    """Parts for (file, offset, nbytes) that lie one behind the other in a slot (`room_in_a_row`)."""
    parts: list[Part] = []
    place = 0
    for file, offset, nbytes in stretches:
        parts.append(Part(file, offset, nbytes, place))
        place += spaced(parts[-1].room)
    return tuple(parts)


def room_in_a_row(stretches: Iterable[tuple[int, int]]) -> int:
    """Bytes of a slot for stretches (offset, nbytes) one behind the other, each from a block on."""
    return sum(spaced(room_for(offset, nbytes)) for offset, nbytes in stretches)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file as it was when the reader opened it. `device`, `inode`, `nbytes` and `modified_ns` tell it from
    other files and from later states of itself; `direct` says whether reads go past the page cache now.
    """

    path: Path
    device: int
    inode: int
    nbytes: int
    modified_ns: int
    direct: bool


@dataclass(frozen=True, slots=True)
class ReadStats:
    """Counters since the reader was made, and `num_in_flight` stretches that are read just now.
    `nbytes_read` is what came from files, `nbytes_wanted` what was asked for, `nbytes_buffered` what went
    through the page cache; `reading_s` are the seconds in which anything was in flight.
    """

    num_in_flight: int
    num_reads: int
    num_prefetches: int
    num_cancelled: int
    num_failed: int
    num_calls: int
    num_retries: int
    nbytes_wanted: int
    nbytes_read: int
    nbytes_buffered: int
    reading_s: float


class Reader:
    """Reads files into arenas while others compute. Safe to use from several threads.

    Args:
        backend: `ring` or `threads`; by default the ring, and threads where the kernel has none for us.
        depth: stretches that are read at once. Prefetches fill at most half of it.
        num_threads: threads that read where there is no ring.
        chunk_nbytes: longer stretches are read as several; a multiple of 4096.
        stuck_after_s: a read whose call has not returned for so long fails.
        direct: read past the page cache. Where that is off or refused, what was read is dropped from the
            page cache at once.
        faults: for tests: which calls go wrong.

    Raises:
        DiskFault: `ring` was asked for, and the kernel refuses it.
    """

    def __init__(
        self,
        *,
        backend: Literal["auto", "ring", "threads"] = "auto",
        depth: int = 8,
        num_threads: int = 4,
        chunk_nbytes: int = CHUNK_NBYTES,
        stuck_after_s: float = 30.0,
        direct: bool = True,
        faults: Sequence[ReadFault] = (),
    ) -> None:
        self._direct = direct
        self._stuck_after_s = stuck_after_s
        self._paths: dict[int, Path] = {}
        self._native = _native.Reader(
            try_ring=backend != "threads",
            depth=depth,
            threads=num_threads,
            chunk=chunk_nbytes,
            stuck_after_s=stuck_after_s,
            faults=[fault.native for fault in faults],
        )
        if backend == "ring" and not self._native.uses_ring:
            self._native.close()
            raise fault("set up", "io_uring", self._native.ring_refusal)

    @property
    def backend(self) -> Literal["ring", "threads"]:
        """What carries out the reads."""
        return "ring" if self._native.uses_ring else "threads"

    @property
    def ring_refusal(self) -> str:
        """The name of the error with which the kernel refuses its ring; empty where it was not asked, or
        gives one.
        """
        refusal = self._native.ring_refusal
        return _name(refusal) if refusal > 0 else ""

    def direct_refusal(self, number: int) -> str:
        """The name of the error with which the system refuses to read a file directly; empty where it does
        not.
        """
        refusal = self._native.facts(number)[4]
        return _name(refusal) if refusal > 0 else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is slower than it could be and why, a line each, for whoever shows it to the user."""
        lines = []
        if refusal := self.ring_refusal:
            lines.append(f"io_uring is refused ({refusal}): reading with threads")
        for number, path in self._paths.items():
            if refusal := self.direct_refusal(number):
                lines.append(
                    f"{path} cannot be read directly ({refusal}): reading through the page cache, "
                    "which is dropped at once"
                )
        return tuple(lines)

    @property
    def native(self) -> _native.Reader:
        """What a shelf is filled by."""
        return self._native

    def open(self, path: str | Path) -> int:
        """Open a file for reading until the reader is closed; the number to name it by.

        Raises:
            NotFound: there is no such file.
            BadFile: it is a folder, pipe or device.
            DiskFault: the operating system refused it.
        """
        number, problem = self._native.open(os.fspath(path), self._direct)
        if problem == errno.EINVAL:
            raise BadFile(f"not a file: {path}", "it is a folder, a pipe or a device", "give a model file")
        if problem:
            raise fault("open", path, problem)
        self._paths[number] = Path(path)
        return number

    def file(self, number: int) -> OpenedFile:
        """What is known of an opened file."""
        device, inode, nbytes, modified_ns, refusal = self._native.facts(number)
        return OpenedFile(self._paths[number], device, inode, nbytes, modified_ns, direct=refusal == 0)

    def submit(
        self, arena: Arena, slot: Slot, parts: Sequence[Part], priority: Priority = "demand"
    ) -> Ticket:
        """Begin to read all `parts` into a slot, as one read with one outcome. Demands are issued before
        prefetches, otherwise in the order of submission. The ticket has to be waited for or cancelled.

        Raises:
            ValueError: the slot was released, a part does not fit it or lies outside its file, or the reader
                is closed.
        """
        native = [part.native for part in parts]
        return Ticket(
            self._native.submit(arena.native, slot.index, slot.generation, native, priority == "prefetch")
        )

    def wait(self, ticket: Ticket) -> None:
        """Return when the read is complete and its bytes are in the slot.

        Raises:
            Truncated: the file became too short.
            FileChanged: somebody wrote to it since it was opened.
            DiskStuck: no call of it returned in time. Its slot may still be written to: it can be released
                once `settled(ticket)`.
            DiskFault: the operating system failed it, retries included, or the reader was closed before.
            ValueError: the ticket was waited for or cancelled before.
        """
        self.wait_any((ticket,))

    def wait_any(self, tickets: Sequence[Ticket], timeout_s: float | None = None) -> Ticket | None:
        """The first of `tickets` that is complete, in their order; waits until there is one. None when
        `timeout_s` is over before.

        Raises what `wait` raises, for the first read that failed.
        """
        timeout_s = _LONG_S if timeout_s is None else max(0.0, timeout_s)
        outcome = self._native.wait(list(tickets), timeout_s)
        if outcome is None:
            return None
        if outcome[1]:
            raise self.error(outcome)
        return Ticket(outcome[0])

    def ready(self, ticket: Ticket) -> bool:
        """Whether waiting for it would return or raise at once."""
        return self._native.ready(ticket)

    def cancel(self, ticket: Ticket) -> bool:
        """Forget a read if nothing of it was issued yet. False when it was: then it has to be waited for."""
        return self._native.cancel(ticket)

    def promote(self, ticket: Ticket) -> bool:
        """Make a prefetch a demand. False when it is none, or complete."""
        return self._native.promote(ticket)

    def settled(self, ticket: Ticket) -> bool:
        """Whether nothing of the read writes to its slot any more."""
        return self._native.settled(ticket)

    def forget_all(self) -> None:
        """Forget all reads: for a user that lost count of its tickets. Waits for those that are in flight.

        Raises:
            DiskStuck: some do not return; they may still write to their slots.
        """
        if not self._native.forget_all(self._stuck_after_s):
            raise self._do_not_return()

    def stats(self) -> ReadStats:
        return ReadStats(**self._native.stats())

    def close(self) -> None:
        """Fail what was not issued, wait for what was, close the files. Closing twice is allowed.

        Raises:
            DiskStuck: some reads do not return. They keep their files and memory until they do.
        """
        if not self._native.close():
            raise self._do_not_return()

    def _do_not_return(self) -> DiskStuck:
        return DiskStuck(
            "some reads do not return",
            "the disk does not answer",
            _STUCK_HINT,
            stuck_after_s=self._stuck_after_s,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def error(self, outcome: _native.Outcome) -> ApportionError:
        """What a read that failed is to its user."""
        ticket, cause, number, file, offset, nbytes, have, num_calls = outcome
        path = self._paths[file]
        where: dict[str, object] = {"ticket": ticket, "offset": offset, "need": nbytes, "have": have}
        if cause == "truncated":
            return Truncated(
                f"{path} ends too early", "it became shorter while it was in use", _CHANGED_HINT, **where
            )
        if cause == "changed":
            return FileChanged(f"{path} changed while it was in use", "", _CHANGED_HINT, **where)
        if cause == "stuck":
            why = f"no call returned in {self._stuck_after_s:g} s"
            return DiskStuck(f"reading {path} is stuck", why, _STUCK_HINT, **where)
        if cause == "closed":
            number = errno.ECANCELED
        error = fault("read", path, number, offset)
        error.numbers.update(where, calls=num_calls)
        return error


_LONG_S = 1e9
_CHANGED_HINT = "leave a model's files alone while it runs, and load it again"
_STUCK_HINT = "look whether the disk or its network is still there"


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number))
