"""Blocks of KV memory: which are taken, and how often each is held."""

from __future__ import annotations

from apportion.formats.block import Bytes


class BlockPool:
    """`memory` [num_blocks, block_nbytes] as blocks that are taken, shared and released. For one thread.

    A block's content is whatever was left there: who takes one writes it before it is read. Blocks that
    were given back last are taken first, so that as few as possible are ever touched.
    """

    def __init__(self, memory: Bytes) -> None:
        assert memory.ndim == 2, memory.shape
        self._memory = memory
        self._references = [0] * len(memory)
        self._free = list(range(len(memory)))[::-1]
        self._closed: list[int] = []
        self._kept: set[int] = set()
        self._num_idle = 0

    @property
    def block_nbytes(self) -> int:
        """Bytes of a block."""
        return int(self._memory.shape[1])

    @property
    def num_blocks(self) -> int:
        """Blocks that may be used; fewer after `shrink`."""
        return len(self._references) - len(self._closed)

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def take(self, num_blocks: int = 1) -> list[int] | None:
        """Free blocks, held once each; None where there are fewer, and nothing was taken."""
        if num_blocks > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(num_blocks)]
        for block in taken:
            self._references[block] = 1
        return taken

    def share(self, block: int) -> None:
        """Hold a block that somebody holds once more."""
        assert self._references[block] > 0, block
        if self._references[block] == 1 and block in self._kept:
            self._num_idle -= 1
        self._references[block] += 1

    def release(self, block: int) -> None:
        """Hold a block once less; with the last holder it becomes free."""
        assert self._references[block] > 0, block
        self._references[block] -= 1
        if not self._references[block]:
            self._free.append(block)
        elif self._references[block] == 1 and block in self._kept:
            self._num_idle += 1

    def keep(self, block: int) -> None:
        """Hold a block that somebody holds once more, in case that it can be used again."""
        assert block not in self._kept, block
        self.share(block)
        self._kept.add(block)

    def forget(self, block: int) -> None:
        """Keep a block no more."""
        self._kept.remove(block)
        if self._references[block] == 1:
            self._num_idle -= 1
        self.release(block)

    @property
    def num_idle(self) -> int:
        """Blocks that are kept and that nobody uses."""
        return self._num_idle

    def references(self, block: int) -> int:
        """How often a block is held."""
        return self._references[block]

    def view(self, block: int) -> Bytes:
        """A block's content, [block_nbytes]; writable."""
        row: Bytes = self._memory[block]
        return row

    def copy(self, source: int, target: int) -> None:
        """The content of one block into another."""
        assert self._references[target] == 1, "a block that is shared never changes"
        self._memory[target] = self._memory[source]

    def shrink(self, num_blocks: int) -> int:
        """Take up to `num_blocks` free blocks out of use, for good; how many it were."""
        closed = self._free[: min(num_blocks, len(self._free))]  # those least likely to have been touched
        del self._free[: len(closed)]
        self._closed += closed
        return len(closed)
