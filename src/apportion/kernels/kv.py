"""Keys and values of sequences, in blocks of 32 positions.

A block holds its positions for all layers and heads of one sequence. In it lie head pages, at fixed offsets:
for one layer and one head, 32 rows of keys, 32 rows of values, and what scales them (`kernels.kv_codec`).
A sequence is a table of blocks, which may lie in several pools and in several codecs, and which tables may
share. A *place* counts rows through a table: 32 * block + row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apportion import _native
from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import BLOCK_TOKENS, HeadLayout
from apportion.kernels.kv_codecs import CODECS

ALL_LIVE = 0xFFFFFFFF
PAGE_ALIGNMENT = 64  # a cache line, and the widest vector registers
BLOCK_ALIGNMENT = 4096  # blocks go to disk and come back past the page cache


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Key-value heads of one layer. Joint (latent attention): values are the first numbers of the keys."""

    num_heads: int
    key_width: int
    value_width: int
    joint: bool = False


@dataclass(frozen=True, slots=True)
class LayerPages:
    """One layer's share of a block.

    Attributes:
        offset: bytes from the block's start to the first head's page.
        head_nbytes: from one head's page to the next.
        head: what lies where in a page.
    """

    shape: LayerShape
    codec: str
    offset: int
    head_nbytes: int
    head: HeadLayout


@dataclass(frozen=True, slots=True)
class PageLayout:
    """What lies where in a block."""

    block_nbytes: int
    layers: tuple[LayerPages, ...]


def page_layout(shapes: Sequence[LayerShape], codecs: str | Sequence[str]) -> PageLayout:
    """Blocks of layers with such heads, in one codec or in one for each layer.

    Raises:
        NotFound: there is no such codec.
        ValueError: there is not one for each layer.
    """
    names = [codecs] * len(shapes) if isinstance(codecs, str) else list(codecs)
    layers, offset = [], 0
    for shape, codec in zip(shapes, names, strict=True):
        head = HeadLayout(CODECS.get(codec), shape.key_width, shape.value_width, shape.joint)
        head_nbytes = rounded_up(head.nbytes, PAGE_ALIGNMENT)
        layers.append(LayerPages(shape, codec, offset, head_nbytes, head))
        offset += shape.num_heads * head_nbytes
    return PageLayout(rounded_up(offset, BLOCK_ALIGNMENT), tuple(layers))


def rounded_up(nbytes: int, unit: int) -> int:
    return -(-nbytes // unit) * unit


class KvPool:
    """Blocks in memory that somebody else owns, or in memory of its own (`KvPool.of`).

    Attributes:
        memory: uint8 [num_blocks * block_nbytes].
        blocks: the same, [num_blocks, block_nbytes].
        smoothing: of each layer, factors [G, D] that divide its keys before they are written and multiply the
            queries that meet them; empty where there are none.
    """

    __slots__ = ("blocks", "layout", "memory", "native", "smoothing")

    def __init__(self, layout: PageLayout, memory: Bytes, smoothing: Sequence[Floats] = ()) -> None:
        """
        Raises:
            ValueError: the memory is not a whole number of blocks, or factors are not positive or not one for
                each channel.
        """
        self.layout = layout
        self.memory = memory
        self.smoothing = tuple(smoothing)
        layers = [
            (
                pages.head.codec.number,
                pages.shape.num_heads,
                pages.shape.key_width,
                pages.shape.value_width,
                pages.shape.joint,
                pages.offset,
                pages.head_nbytes,
            )
            for pages in layout.layers
        ]
        self.native = _native.KvPool(memory, layout.block_nbytes, layers)
        self.native.smooth(self.smoothing)
        self.blocks = memory.reshape(-1, layout.block_nbytes)

    @staticmethod
    def of(layout: PageLayout, num_blocks: int, smoothing: Sequence[Floats] = ()) -> KvPool:
        """A pool over memory of its own, which is taken where it is first written."""
        return KvPool(layout, _native.allocate(num_blocks * layout.block_nbytes), smoothing)

    def encode(
        self, block: int, source: KvPool, source_block: int, rows: range = range(BLOCK_TOKENS)
    ) -> None:
        """Rows of a block of another pool into one of this, in this one's codecs.

        Raises:
            ValueError: there are no such blocks or rows, or the pools are of different models.
        """
        self.native.encode(block, source.native, source_block, rows.start, len(rows))

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)


class Page(NamedTuple):
    """A block of a pool, and a bit for each of its rows that tells whether it is live."""

    pool: KvPool
    block: int
    live: int = ALL_LIVE


class KvTable:
    """A sequence's blocks in order. It is not to change while a run reads or writes it.

    Methods raise ValueError for blocks that do not exist, and while a run is under way.
    """

    __slots__ = ("_kept", "_pages", "native")

    def __init__(self) -> None:
        self.native = _native.KvTable()
        self._pages: list[Page] = []
        self._kept: dict[int, tuple[int, list[list[Page]]]] = {}

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def blocks(self) -> Sequence[Page]:
        return self._pages

    def append(self, pool: KvPool, block: int, live: int = ALL_LIVE) -> None:
        """A block follows. Places whose bit in `live` is 0 are dead: no token enters or sees them."""
        self.native.append(pool.native, block, live)
        self._pages.append(Page(pool, block, live))

    def replace(self, index: int, pool: KvPool, block: int, live: int = ALL_LIVE) -> None:
        """Another block in place of one."""
        self.native.replace(index, pool.native, block, live)
        self._pages[index] = Page(pool, block, live)

    def truncate(self, num_blocks: int) -> None:
        """Only the first blocks stay."""
        self.native.truncate(num_blocks)
        del self._pages[num_blocks:]

    def keep(self, layer: int, first: int, rows: Sequence[Sequence[Page | tuple[KvPool, int, int]]]) -> None:
        """In one layer, each head's own pages in place of the blocks before `first`.

        Of a page's block, only this layer's and this head's part is read. Heads may differ in how many pages
        they have. From then on, tokens enter the table at block `first` or later.
        """
        kept = [[Page(*page) for page in pages] for pages in rows]
        native = [[(page.pool.native, page.block, page.live) for page in pages] for pages in kept]
        self.native.keep(layer, first, native)
        self._kept[layer] = first, kept

    def pages(self, layer: int, head: int) -> list[Page]:
        """What one head reads, in order."""
        if layer not in self._kept:
            return self._pages
        first, heads = self._kept[layer]
        return heads[head] + self._pages[first:]


class Segment:
    """Tokens of one sequence that are run together: they enter the table at the places start.. .

    Attributes:
        position: of the first token, for rotary embeddings; `start` unless given.
    """

    __slots__ = ("native", "num_tokens", "position", "start", "table")

    def __init__(self, table: KvTable, start: int, num_tokens: int, position: int | None = None) -> None:
        self.table = table
        self.start = start
        self.num_tokens = num_tokens
        self.position = start if position is None else position
        self.native = table.native, start, num_tokens, self.position


def num_blocks_for(num_positions: int) -> int:
    """Blocks that hold so many positions."""
    return -(-num_positions // BLOCK_TOKENS)


def live_rows(pages: Sequence[Page]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[32 * pages]: which rows are live."""
    masks = np.array([page.live for page in pages], np.uint32)
    return (masks[:, None] >> np.arange(BLOCK_TOKENS, dtype=np.uint32) & 1).astype(bool).reshape(-1)
