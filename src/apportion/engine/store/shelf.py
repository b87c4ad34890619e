"""What a store knows of its blocks without reading: where each lies, and what it has been used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apportion.engine.store.record import HEADER_NBYTES, Record, record_nbytes

ENTRY_NBYTES = 600  # of memory for one block, its place in the tables included


@dataclass(slots=True, eq=False)
class Entry:
    """A block that lies complete and safe in a segment."""

    segment: int
    offset: int
    number: int
    key: bytes
    parent: bytes
    num_before: int
    num_tokens: int
    payload_nbytes: int
    payload_sum: bytes
    last_use_s: float
    num_uses: int = 0  # since it was written

    @property
    def nbytes(self) -> int:
        """Of the whole record."""
        return record_nbytes(self.payload_nbytes)

    @property
    def payload_offset(self) -> int:
        return self.offset + HEADER_NBYTES

    @classmethod
    def of(cls, record: Record, segment: int, offset: int, last_use_s: float) -> Entry:
        """The entry of a record that lies there."""
        return cls(
            segment,
            offset,
            record.number,
            record.key,
            record.parent,
            record.num_before,
            len(record.ids),
            record.payload_nbytes,
            record.payload_sum,
            last_use_s,
        )


class Shelf:
    """Entries by key and by segment. Its owner sees to it that one thread at a time changes it."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._segments: dict[int, dict[bytes, Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def get(self, key: bytes) -> Entry | None:
        return self._entries.get(key)

    def entries(self) -> list[Entry]:
        """All of them."""
        return list(self._entries.values())

    def in_segment(self, segment: int) -> list[Entry]:
        """Its entries in the order in which they lie."""
        return list(self._segments.get(segment, {}).values())

    def add(self, entry: Entry) -> None:
        """Of two entries with one key the later record counts."""
        known = self._entries.get(entry.key)
        if known is not None:
            if known.number > entry.number:
                return
            self.drop(known)
        self._entries[entry.key] = entry
        self._segments.setdefault(entry.segment, {})[entry.key] = entry

    def drop(self, entry: Entry) -> bool:
        """Forget this very entry; False when it is known no longer."""
        if self._entries.get(entry.key) is not entry:
            return False
        del self._entries[entry.key]
        rest = self._segments[entry.segment]
        del rest[entry.key]
        if not rest:
            del self._segments[entry.segment]
        return True

    def drop_all(self, entries: Iterable[Entry]) -> int:
        """How many were known."""
        return sum(self.drop(entry) for entry in entries)

    def is_orphan(self, entry: Entry) -> bool:
        """Whether the block that it continues is not here: nothing leads to it then."""
        return entry.num_before > 0 and entry.parent not in self._entries
