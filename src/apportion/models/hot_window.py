"""Which blocks of a sequence are hot: kept as they were computed while codes would hurt most.

    block    0     | 1 .. n                                 | the last 128 positions and more
             sinks | leave the window and become codes      | recent
    codec    f16   | q4                                     | f16

Every block has its place in the cold pool. While it is hot, another block, of the hot pool, stands for it in
the sequence's table; when it leaves the window it is encoded into its place. So the hot pool needs few
blocks, and how many does not depend on how long the sequence becomes.

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


class HotWindow:
    """Moves one sequence's blocks between a hot pool and their places in a cold one.

    Call `prepare` before a pass and `settle` after it. A pass of more tokens than there is room for has its
    first ones written as codes at once.

    Args:
        table: whose blocks lie in the cold pool; some of them are replaced for a time.
        hot: the pool for hot blocks, in which this sequence has `blocks` for itself.
    """

    def __init__(self, table: KvTable, hot: KvPool, blocks: list[int]) -> None:
        self._table = table
        self._pool = hot
        self._free = blocks
        self._places: dict[int, tuple[KvPool, int, int]] = {}  # by index: where its codes belong
        self._hot: dict[int, int] = {}  # by index: its block of the hot pool

    @property
    def indices(self) -> list[int]:
        """The blocks of the table that are hot, in order."""
        return sorted(self._hot)

    def prepare(self, start: int, num_tokens: int) -> None:
        """Tokens are about to enter the places start..; blocks that they begin become hot, the sinks and the
        last ones first.
        """
        first, last = num_blocks_for(start), num_blocks_for(start + num_tokens)
        fresh = [index for index in range(first, last) if index not in self._hot]
        sinks = [index for index in fresh if index < SINK_BLOCKS]
        for index in (*sinks, *reversed(fresh[len(sinks) :])):
            if not self._free:
                return
            self._heat(index)

    def settle(self, length: int) -> None:
        """The sequence has `length` positions: encode the blocks that have left the window."""
        for index in self.indices:
            if index >= SINK_BLOCKS and (index + 1) * BLOCK_TOKENS <= length - WINDOW:
                self._encode(index)

    def truncate(self, length: int) -> None:
        """Positions from `length` on are forgotten: blocks that held nothing else are hot no more."""
        for index in self.indices:
            if index >= num_blocks_for(length):
                self._cool(index)

    def close(self) -> list[int]:
        """Encode what is hot still; gives back the blocks of the hot pool."""
        for index in self.indices:
            self._encode(index)
        return self._free

    def _heat(self, index: int) -> None:
        block, place = self._free.pop(), self._table.blocks[index]
        self._hot[index], self._places[index] = block, place
        self._table.replace(index, self._pool, block, place.live)

    def _encode(self, index: int) -> None:
        pool, block, _ = self._places[index]
        pool.encode(block, self._pool, self._hot[index])
        self._cool(index)

    def _cool(self, index: int) -> None:
        self._table.replace(index, *self._places.pop(index))
        self._free.append(self._hot.pop(index))
