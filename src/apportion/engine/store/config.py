"""How a store is set up: how large, for which blocks, and how it may use the disk."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.core.errors import UsageError
from apportion.core.units import MiB, format_bytes
from apportion.engine.store.folder import SMALL_FILES_NBYTES
from apportion.engine.store.record import HEADER_NBYTES, MAX_PAYLOAD_NBYTES, record_nbytes

QUEUE_NBYTES = 16 * MiB
_FEWEST_SEGMENTS = 8


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """
    Attributes:
        limit_nbytes: what all files of the store may take, at every moment.
        fingerprint: of the model, its tokenizer and the layout of blocks; nothing else is used.
        block_nbytes: of a block's content.
        segment_nbytes: of a segment file; smaller where the limit is small, larger where a block is.
        queue_nbytes: memory for blocks on their way to the disk; two blocks at least.
        writes_per_day_nbytes: of records; None for no bound.
        stuck_after_s: a read that has not come back for so long makes the store count as empty until it has.
    """

    limit_nbytes: int
    fingerprint: bytes
    block_nbytes: int
    segment_nbytes: int = 64 * MiB
    queue_nbytes: int = QUEUE_NBYTES
    writes_per_day_nbytes: int | None = None
    stuck_after_s: float = 5.0

    def __post_init__(self) -> None:
        assert 0 < self.block_nbytes <= MAX_PAYLOAD_NBYTES, self.block_nbytes
        if self.limit_nbytes < self.smallest_limit:
            raise UsageError(
                "the store on disk is too small",
                f"it is to hold {_FEWEST_SEGMENTS} blocks of {format_bytes(self.block_nbytes)} at least",
                f"give it {format_bytes(self.smallest_limit)} or more, or none",
                limit=self.limit_nbytes,
            )

    @property
    def record_nbytes(self) -> int:
        """A block on disk."""
        return record_nbytes(self.block_nbytes)

    @property
    def smallest_limit(self) -> int:
        """The least `limit_nbytes` for such blocks."""
        return _FEWEST_SEGMENTS * self.record_nbytes + SMALL_FILES_NBYTES

    @property
    def segment_room(self) -> int:
        """Bytes at which a segment is full: an eighth of the limit at most, so that room can be made bit by
        bit, and one block at least.
        """
        share = (self.limit_nbytes - SMALL_FILES_NBYTES) // _FEWEST_SEGMENTS
        return max(min(self.segment_nbytes, share) // HEADER_NBYTES * HEADER_NBYTES, self.record_nbytes)

    @property
    def num_slots(self) -> int:
        """Blocks that the queue holds."""
        return max(self.queue_nbytes // self.record_nbytes, 2)
