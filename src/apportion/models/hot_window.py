"""Which blocks of a sequence are hot: read as they were computed, where codes would hurt most.

    block    0     | 1 .. n                    | the last 128 positions and more
             sinks | have left the window      | recent
    read as  f16   | q4                        | f16

Every token is written to its place in the cold pool, in codes. While a block is hot, another block, of the
hot pool, holds the same tokens as they were computed, and stands for it in the sequence's table. So a block
may stop being hot at any time, others may share its place in the cold pool, and the hot pool needs few
blocks, however long the sequence becomes.

SKVQ (https://arxiv.org/abs/2405.06219) keeps sinks and a window of 128 tokens; here in whole blocks.
"""

from __future__ import annotations

from apportion.kernels.kv import KvPool, KvTable, num_blocks_for
from apportion.kernels.kv_codec import BLOCK_TOKENS

WINDOW = 128  # positions before the next one that are hot at least
SINK_BLOCKS = 1  # blocks at the beginning that always are
AT_ONCE = 128  # tokens of a pass that find room in the hot pool beside the window
HOT_BLOCKS = SINK_BLOCKS + (WINDOW + AT_ONCE) // BLOCK_TOKENS + 1  # the window may begin inside a block


def num_hot_blocks(num_positions: int) -> int:
    """Blocks of the hot pool that a sequence of so many positions needs."""
    return min(HOT_BLOCKS, num_blocks_for(num_positions))


class HotPool:
    """Blocks for what is hot, which sequences take and give back. Where none is left, blocks stay cold."""

    def __init__(self, pool: KvPool) -> None:
        self.pool = pool
        self.free = list(range(pool.num_blocks))


class HotWindow:
    """The hot blocks of one sequence. Call `prepare` before a pass and `settle` after it.

    Args:
        table: whose blocks lie in a cold pool; some of them are replaced for a time.
        most: hot blocks that the sequence may have.
    """

    def __init__(self, table: KvTable, hot: HotPool, most: int = HOT_BLOCKS) -> None:
        self._table = table
        self._pool = hot
        self._most = most
        self._places: dict[int, tuple[KvPool, int, int]] = {}  # by index: where its codes are
        self._hot: dict[int, int] = {}  # by index: its block of the hot pool

    @property
    def indices(self) -> list[int]:
        """The blocks of the table that are hot, in order."""
        return sorted(self._hot)

    def prepare(self, start: int, num_tokens: int) -> None:
        """Tokens are about to enter the places start..; blocks that they begin become hot, the sinks and the
        last ones first. Those that find no room are written as codes at once.
        """
        first, last = num_blocks_for(start), num_blocks_for(start + num_tokens)
        fresh = [index for index in range(first, last) if index not in self._hot]
        sinks = [index for index in fresh if index < SINK_BLOCKS]
        for index in (*sinks, *reversed(fresh[len(sinks) :])):
            if not self._pool.free or len(self._hot) == self._most:
                return
            self._heat(index)

    def settle(self, start: int, length: int) -> None:
        """Tokens have entered the places start..length - 1: write their codes, and let go of blocks that have
        left the window.
        """
        for index in self.indices:
            begin = index * BLOCK_TOKENS
            rows = range(max(start - begin, 0), min(length - begin, BLOCK_TOKENS))
            pool, block, _ = self._places[index]
            if rows:
                pool.encode(block, self._pool.pool, self._hot[index], rows)
            if index >= SINK_BLOCKS and begin + BLOCK_TOKENS <= length - WINDOW:
                self._cool(index)

    def truncate(self, length: int) -> None:
        """Positions from `length` on are forgotten: blocks that held nothing else are hot no more."""
        for index in self.indices:
            if index >= num_blocks_for(length):
                self._cool(index)

    def close(self) -> None:
        """Nothing is hot any more."""
        self.truncate(0)

    def exchange(self, index: int, pool: KvPool, block: int) -> bool:
        """The codes of a block have another place; whether it is hot, so that the table stays as it is."""
        if index not in self._hot:
            return False
        self._places[index] = pool, block, self._places[index][2]
        return True

    def _heat(self, index: int) -> None:
        block, place = self._pool.free.pop(), self._table.blocks[index]
        self._hot[index], self._places[index] = block, place
        self._table.replace(index, self._pool.pool, block, place.live)

    def _cool(self, index: int) -> None:
        self._table.replace(index, *self._places.pop(index))
        self._pool.free.append(self._hot.pop(index))
