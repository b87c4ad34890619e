"""What a store has done since it was opened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StoreCounters:
    """Blocks unless they are called otherwise.

    Attributes:
        written, duplicates: committed; offered although they were there.
        commits: of one or several blocks each. `nbytes_written` is what they and moved blocks took on disk.
        refused_queue, refused_wear, refused_off: not taken, since memory for the queue was full, the day's
            writes are used up, or the store writes no more.
        lost: taken, and then not written, because the disk or the room failed.
        hits, misses: of reads; a miss of any kind is one. `nbytes_read` is what hits brought.
        corrupt: found to be damaged when they were read, and never used again.
        foreign: of another model, layout or version, found on opening.
        damaged_stretches: of segments, found on opening, that are no blocks; an unfinished write leaves one.
        read_faults, write_faults: calls that the disk failed.
        moved, dropped: taken along, or not, when `reclaimed` segments made room.
        poisoned: segments that were given up after a failure.
    """

    written: int = 0
    duplicates: int = 0
    commits: int = 0
    nbytes_written: int = 0
    refused_queue: int = 0
    refused_wear: int = 0
    refused_off: int = 0
    lost: int = 0
    hits: int = 0
    misses: int = 0
    nbytes_read: int = 0
    corrupt: int = 0
    foreign: int = 0
    damaged_stretches: int = 0
    read_faults: int = 0
    write_faults: int = 0
    moved: int = 0
    dropped: int = 0
    reclaimed: int = 0
    poisoned: int = 0
