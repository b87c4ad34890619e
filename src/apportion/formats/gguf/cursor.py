"""A cursor over a GGUF header: forward in chunks, never allocating more than the file still holds."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import BadFile, LimitExceeded, Truncated
from apportion.formats.source_file import SourceFile

CHUNK_NBYTES = 1 << 20
MAX_HEADER_NBYTES = 256 << 20  # the largest real vocabularies need about 15 MiB
MAX_STRING_NBYTES = 64 << 20  # some files carry a whole tokenizer.json as one string

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """Typed little-endian reads from the current position on. Every read names what it is for, so that an
    error can say what the file ended in.
    """

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self._window = b""
        self._start = 0  # offset in the file of the window's first byte
        self._index = 0  # the position within the window

    @property
    def offset(self) -> int:
        return self._start + self._index

    def require(self, nbytes: int, what: str) -> None:
        """Refuse a claim on more bytes than the file has left, or than a header may have."""
        left = self.file.size - self.offset
        if nbytes > left:
            raise Truncated(
                f"{self.file.path.name} ends inside {what}",
                hint="the file is cut off or damaged; copy or download it again",
                file=str(self.file.path),
                offset=self.offset,
                need=nbytes,
                left=left,
            )
        if self.offset + nbytes > MAX_HEADER_NBYTES:
            raise LimitExceeded(
                f"the header of {self.file.path.name} is too large",
                f"reading {what}",
                offset=self.offset,
                need=nbytes,
                limit=MAX_HEADER_NBYTES,
            )

    def u32(self, what: str) -> int:
        return int(self.unpack(_U32, what)[0])

    def u64(self, what: str) -> int:
        return int(self.unpack(_U64, what)[0])

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int | float, ...]:
        self._ensure(layout.size, what)
        values = layout.unpack_from(self._window, self._index)
        self._index += layout.size
        return values

    def take(self, nbytes: int, what: str) -> bytes:
        self._ensure(nbytes, what)
        data = self._window[self._index : self._index + nbytes]
        self._index += nbytes
        return data

    def string(self, what: str, max_nbytes: int = MAX_STRING_NBYTES) -> str:
        """A length (u64) and that many bytes of UTF-8."""
        start = self.offset
        nbytes = self.u64(f"the length of {what}")
        self.require(nbytes, what)
        if nbytes > max_nbytes:
            raise LimitExceeded(
                f"{what} in {self.file.path.name} is too long",
                offset=start,
                nbytes=nbytes,
                limit=max_nbytes,
            )
        try:
            return str(self.take(nbytes, what), "utf-8")
        except UnicodeDecodeError:
            raise self.bad(f"{what} is not UTF-8", offset=start) from None

    def strings(self, count: int, what: str) -> list[str]:
        """`count` strings; about a quarter of a microsecond each."""
        self.require(8 * count, what)
        result: list[str] = []
        while len(result) < count:
            self._take_whole_strings(result, count, what)
            if len(result) < count:  # the next one reaches past the window: read it with a refill
                result.append(self.string(f"string {len(result)} of {what}"))
        return result

    def _take_whole_strings(self, result: list[str], count: int, what: str) -> None:
        """Append the strings that lie wholly in the window."""
        window, index, end = self._window, self._index, len(self._window)
        unpack, append = _U64.unpack_from, result.append
        try:
            for _ in range(count - len(result)):
                start = index + 8
                stop = start + unpack(window, index)[0]
                if stop > end:
                    break
                append(str(window[start:stop], "utf-8"))
                index = stop
        except struct.error:  # not even the length is in the window
            pass
        except UnicodeDecodeError:
            raise self.bad(
                f"string {len(result)} of {what} is not UTF-8", offset=self._start + index
            ) from None
        self._index = index

    def array(self, dtype: np.dtype[np.generic], count: int, what: str) -> NDArray[np.generic]:
        """`count` numbers, in memory of their own."""
        nbytes = count * dtype.itemsize
        self.require(nbytes, what)
        values = np.empty(count, dtype)
        out = values.view(np.uint8).data
        inside = min(nbytes, len(self._window) - self._index)
        out[:inside] = self._window[self._index : self._index + inside]
        if inside < nbytes:
            self.file.read_into(out[inside:], self.offset + inside)
        self._seek(self.offset + nbytes)
        return values

    def bad(self, what: str, why: str = "", **numbers: object) -> BadFile:
        """An error about this file, to be raised by the caller."""
        hint = "the file is damaged, or was written by a faulty tool"
        return BadFile(f"{what} in {self.file.path.name}", why, hint, **numbers)

    def _ensure(self, nbytes: int, what: str) -> None:
        """Have the next `nbytes` in the window."""
        if len(self._window) - self._index >= nbytes:
            return
        self.require(nbytes, what)
        start = self.offset
        window = bytearray(min(max(nbytes, CHUNK_NBYTES), self.file.size - start))
        self.file.read_into(memoryview(window), start)
        self._window, self._start, self._index = bytes(window), start, 0

    def _seek(self, offset: int) -> None:
        index = offset - self._start
        if index <= len(self._window):
            self._index = index
        else:
            self._window, self._start, self._index = b"", offset, 0
