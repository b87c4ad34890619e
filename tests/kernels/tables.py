"""Sequences for the kernels' tests."""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Floats
from apportion.kernels import KvPool, KvTable, LayerShape, Segment, page_layout
from apportion.kernels.kv import num_blocks_for
from apportion.kernels.kv_rows import write_rows


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def new_pool(shape: LayerShape, num_blocks: int, codec: str = "f32", layers: int = 1) -> KvPool:
    """Blocks of zeros."""
    layout = page_layout([shape] * layers, codec)
    return KvPool(layout, np.zeros(num_blocks * layout.block_nbytes, np.uint8))


def new_table(capacity: int, shape: LayerShape, codec: str = "f32", layers: int = 1) -> KvTable:
    """A sequence with blocks of its own, which are zeros."""
    pool, table = new_pool(shape, num_blocks_for(capacity), codec, layers), KvTable()
    for block in range(pool.num_blocks):
        table.append(pool, block)
    return table


def alone(table: KvTable, start: int, num_tokens: int) -> list[Segment]:
    return [Segment(table, start, num_tokens)]


def table_of(keys: Floats, values: Floats | None, codec: str = "f32", value_width: int = 0) -> KvTable:
    """A sequence of one layer that holds keys [n, G, D] and values [n, G, Dv], or the keys' first numbers."""
    width = value_width if values is None else values.shape[2]
    table = new_table(len(keys), LayerShape(keys.shape[1], keys.shape[2], width, values is None), codec)
    write_rows(table, 0, 0, keys, values)
    return table
