"""The draft of a file that is written unit by unit: `OUT.partial`, which is its own journal.

It holds a table with a digest of every unit, zeros where a unit is not there yet. A later run believes of it
what the bytes bear out: units whose digest is right stay, all others are written again, whatever a kill or a
power cut left. The table's first entry says from which source, and in which form, the draft is made; when all
is written it becomes the header's own digest, and the draft gets its final name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from apportion.compress.behind import Behind
from apportion.core.disk import Disk, DiskFile, read_exactly, write_all
from apportion.core.errors import ApportionError, DiskFault, NotFound
from apportion.formats.block import Bytes
from apportion.formats.streaming import DIGEST_NBYTES, Hasher, new_digest

SYNC_NBYTES = 256 << 20  # what a power cut may cost, and what waits in the system's memory at most


class Draft:
    """An open draft. Units are written in order, and digested meanwhile, behind the caller's back.

    Args:
        disk: where it lies.
        path: its name.
        header: the bytes that the file begins with; the table follows.
        num_digests: entries of the table, the header's included.
        mark: the digest of what it is made from.

    Raises:
        DiskFault: the operating system refused it.
    """

    def __init__(self, disk: Disk, path: Path, header: bytes, num_digests: int, mark: bytes) -> None:
        self._disk, self._path = disk, path
        self._header = header
        self._table: Bytes = np.zeros((num_digests, DIGEST_NBYTES), np.uint8)
        self._unsynced = 0
        self._file = self._reopened(mark) or self._begun(mark)
        self._writing, self._digesting = Behind(), Behind()

    def may_hold(self, index: int) -> bool:
        """Whether there is a digest of the unit."""
        return self._entry(index) != bytes(DIGEST_NBYTES)

    def holds(self, index: int, offset: int, nbytes: int, room: Bytes) -> bool:
        """Whether the unit is there, whole; read through `room`."""
        self.wait()
        digest = new_digest()
        try:
            for start in range(0, nbytes, room.size):
                piece = room[: min(room.size, nbytes - start)].data
                read_exactly(self._file, piece, offset + start)
                digest.update(piece)
        except ApportionError:  # too short, or a bad place on the disk: it is written again
            return False
        return _digest(digest) == self._entry(index)

    def write(self, index: int, offset: int, chunks: Iterator[Bytes]) -> None:
        """Begin to write a unit. A chunk is done with when the next but one is asked for.

        Raises:
            DiskFault: the operating system failed a write, of this or an earlier unit; what was written
                before stays for a later run.
        """
        digest = new_digest()
        for chunk in chunks:
            self.wait()
            self._digesting.then(partial(digest.update, chunk.data))
            self._writing.then(partial(self._append, chunk, offset))
            offset += chunk.nbytes
        self._digesting.then(partial(self._finish, index, digest))

    def wait(self) -> None:
        """Return when all that was begun is written; raises what `write` raises."""
        self._writing.wait()
        self._digesting.wait()

    def publish(self, out: Path) -> None:
        """Give it its final name: whole, and safe from a power cut. A kill between the last two steps costs
        the draft.

        Raises:
            DiskFault: the operating system refused it; `out` is as it was.
        """
        self.wait()
        self._sync()
        digest = new_digest()
        digest.update(memoryview(self._header))
        mark = self._entry(0)
        self._set(0, _digest(digest))
        try:
            self._sync()
            self._disk.rename(self._path, out)
        except ApportionError:
            with suppress(ApportionError):
                self._set(0, mark)
            raise
        self._disk.sync_folder(out.parent)

    def close(self) -> None:
        """Close the file when nothing writes to it any more, whatever came of it."""
        self._writing.close()
        self._digesting.close()
        self._file.close()

    def _reopened(self, mark: bytes) -> DiskFile | None:
        """The draft of an earlier run, if there is one of the same making."""
        try:
            file = self._disk.open(self._path, "write")
        except NotFound:
            return None
        try:
            header = bytearray(len(self._header))
            read_exactly(file, header, 0)
            read_exactly(file, self._table.data.cast("B"), len(header))
            if header == self._header and self._entry(0) == mark:
                return file
        except ApportionError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()
        self._table[:] = 0
        return None

    def _begun(self, mark: bytes) -> DiskFile:
        """A new draft. An old one loses its name first: whoever still writes to it does no harm."""
        with suppress(NotFound):
            self._disk.remove(self._path)
        file = self._disk.open(self._path, "create")
        try:
            write_all(file, self._header, 0)
            self._table[0] = np.frombuffer(mark, np.uint8)
            write_all(file, self._table.data.cast("B"), len(self._header))
        except BaseException:
            file.close()
            raise
        return file

    def _append(self, chunk: Bytes, offset: int) -> None:
        write_all(self._file, chunk.data, offset)
        self._unsynced += chunk.nbytes
        if self._unsynced >= SYNC_NBYTES:
            self._sync()

    def _finish(self, index: int, digest: Hasher) -> None:
        self._set(index, _digest(digest))

    def _entry(self, index: int) -> bytes:
        return bytes(self._table[index])

    def _set(self, index: int, digest: bytes) -> None:
        self._table[index] = np.frombuffer(digest, np.uint8)
        write_all(self._file, digest, len(self._header) + index * DIGEST_NBYTES)

    def _sync(self) -> None:
        try:
            self._file.fdatasync()
        except DiskFault:
            # Nothing is known of what was written since the last time, not even by reading it back.
            with suppress(ApportionError):
                self._disk.remove(self._path)
            raise
        self._unsynced = 0


def _digest(hasher: Hasher) -> bytes:
    return bytes.fromhex(hasher.hexdigest())
