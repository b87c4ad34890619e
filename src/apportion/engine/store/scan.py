"""Reading a segment's headers, through whatever has happened to it."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.disk import DiskFile, read_exactly
from apportion.core.errors import BadFile, Unsupported
from apportion.engine.store.record import HEADER_NBYTES, MAGIC, Record, decode

_WINDOW_NBYTES = 256 << 10


class Scan:
    """The records of a segment between two offsets.

    Attributes:
        num_damaged: stretches that are no records; the unfinished end of a segment is one.
        num_foreign: records of other versions of the format.
        end: where the last record that was found ends.
    """

    def __init__(self, file: DiskFile, start: int, nbytes: int) -> None:
        self._file = file
        self._nbytes = nbytes
        self.num_damaged = 0
        self.num_foreign = 0
        self.end = start

    def records(self) -> Iterator[tuple[int, Record]]:
        """Offset and header of each, also of the dead ones.

        Raises:
            DiskFault: a read failed; Truncated: the file has become shorter.
        """
        offset = self.end
        while offset + HEADER_NBYTES <= self._nbytes:
            record = self._record_at(offset)
            if record is None:
                offset = self._next_magic(offset + HEADER_NBYTES)
                continue
            yield offset, record
            offset = self.end = offset + record.nbytes
        self.num_damaged += self._nbytes % HEADER_NBYTES > 0

    def _record_at(self, offset: int) -> Record | None:
        header = bytearray(HEADER_NBYTES)
        read_exactly(self._file, header, offset)
        try:
            record = decode(bytes(header))
        except BadFile:
            self.num_damaged += 1
            return None
        except Unsupported:
            self.num_foreign += 1
            return None
        if offset + record.nbytes > self._nbytes:
            self.num_damaged += 1
            return None
        return record

    def _next_magic(self, start: int) -> int:
        """Where the next header may begin: records begin at whole blocks, whatever lies between them."""
        for base in range(start, self._nbytes - HEADER_NBYTES + 1, _WINDOW_NBYTES):
            window = bytearray(min(_WINDOW_NBYTES, self._nbytes - base))
            read_exactly(self._file, window, base)
            for place in range(0, len(window), HEADER_NBYTES):
                if window.startswith(MAGIC, place):
                    return base + place
        return self._nbytes
