"""Room for keys and values: promised before a request enters, taken block by block as it grows.

A request is granted room for the longest that it can become, so that it never runs out half way. What is
promised and not yet taken may meanwhile hold what finished requests left; they are given up when needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from apportion.engine.kv.blocks import BlockPool


class Kept(Protocol):
    """Blocks that are held only because somebody may come back for them."""

    def make_room(self, num_blocks: int) -> int:
        """Give up so many; how many became free."""


class NothingKept:
    """`Kept` that keeps nothing."""

    def make_room(self, num_blocks: int) -> int:
        return 0


class KvSpace:
    """A pool's blocks, divided among rooms and what is kept. For one thread."""

    def __init__(self, pool: BlockPool, kept: Kept | None = None) -> None:
        self.pool = pool
        self._kept = NothingKept() if kept is None else kept
        self._promised = 0  # granted to rooms and not taken yet

    @property
    def available(self) -> int:
        """Blocks that can be granted."""
        return self.pool.num_free + self.pool.num_idle - self._promised

    @property
    def promised(self) -> int:
        """Blocks that rooms may still take."""
        return self._promised

    def grant(self, num_blocks: int) -> Room | None:
        """Room for so many blocks; None where they are not available."""
        if num_blocks > self.available:
            return None
        self._promised += num_blocks
        return Room(self, num_blocks)

    def take(self, num_blocks: int) -> list[int]:
        """Blocks that were promised; what is kept gives way."""
        assert num_blocks <= self._promised, (num_blocks, self._promised)
        lacking = num_blocks - self.pool.num_free
        if lacking > 0:
            self._kept.make_room(lacking)
        taken = self.pool.take(num_blocks)
        assert taken is not None, "more was promised than there is"
        self._promised -= num_blocks
        return taken

    def take_back(self, num_blocks: int) -> None:
        """Blocks that were promised and are not needed."""
        assert 0 <= num_blocks <= self._promised, (num_blocks, self._promised)
        self._promised -= num_blocks

    def shrink(self, num_blocks: int) -> int:
        """Take up to so many blocks out of use for good, those first that nothing needs; how many it were."""
        most = max(0, min(num_blocks, self.available))
        lacking = most - self.pool.num_free
        if lacking > 0:
            self._kept.make_room(lacking)
        return self.pool.shrink(most)


class Room:
    """Blocks that were granted together. What was taken belongs to who took it."""

    def __init__(self, space: KvSpace, num_blocks: int) -> None:
        self._space = space
        self._left = num_blocks

    @property
    def left(self) -> int:
        """Blocks that may still be taken."""
        return self._left

    def take(self, num_blocks: int = 1) -> list[int]:
        """So many blocks of the room."""
        assert num_blocks <= self._left, (num_blocks, self._left)
        self._left -= num_blocks
        return self._space.take(num_blocks)

    def split(self, num_blocks: int) -> Room:
        """A part of what is left, as a room of its own."""
        assert num_blocks <= self._left, (num_blocks, self._left)
        self._left -= num_blocks
        return Room(self._space, num_blocks)

    def take_back(self, num_blocks: int) -> None:
        """Blocks that were given back to the pool may be taken once more."""
        self._left += num_blocks
        self._space._promised += num_blocks

    def close(self) -> None:
        """Give back what was not taken."""
        self._space.take_back(self._left)
        self._left = 0


def blocks_for(num_tokens: int, block_tokens: int) -> int:
    """Blocks that so many positions fill or begin."""
    return -(-num_tokens // block_tokens)


def release_all(pool: BlockPool, blocks: Sequence[int]) -> None:
    """Hold each of the blocks once less, the last one first: it is taken first again."""
    for block in reversed(blocks):
        pool.release(block)
