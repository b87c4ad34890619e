"""Panels: 16 rows of a matrix whose blocks are interleaved, so that the kernels need not shuffle. Packed
files hold matrices so; this is the exact reference of `native/layout.h`.

A panel has as many bytes as its 16 rows. It keeps the blocks' order; within a block it keeps, field by field
and element by element, the 16 rows' elements side by side. For q4_1, a block of 32 numbers in 20 bytes:

    row     | d | m | 4 bytes of nibbles | 4 bytes | 4 bytes | 4 bytes |
    panel   | d of row 0 .. 15 | m of row 0 .. 15 | 4 bytes of row 0 .. 15 | 4 bytes of row 0 .. 15 | ..
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.blocks import format_by_name

PANEL_ROWS = 16

# Of each format that has panels, the fields of a block in order: (bytes of an element, elements).
FIELDS: dict[str, tuple[tuple[int, int], ...]] = {
    "f32": ((4, 1),),
    "f16": ((2, 1),),
    "bf16": ((2, 1),),
    "q8_0": ((2, 1), (4, 8)),
    "q4_0": ((2, 1), (4, 4)),
    "iq4_nl": ((2, 1), (4, 4)),
    "q4_1": ((2, 2), (4, 4)),
    "q5_0": ((2, 1), (4, 1), (4, 4)),
    "q5_1": ((2, 2), (4, 1), (4, 4)),
    "q2_k": ((4, 4), (4, 16), (2, 2)),
    "q3_k": ((4, 8), (4, 16), (4, 3), (2, 1)),
    "q4_k": ((2, 2), (4, 3), (4, 32)),
    "q5_k": ((2, 2), (4, 3), (4, 8), (4, 32)),
    "q6_k": ((4, 32), (4, 16), (4, 4), (2, 1)),
    "iq4_xs": ((2, 2), (4, 1), (4, 32)),
    "mxfp4": ((1, 1), (4, 4)),
}


def has_panels(block_format: BlockFormat, num_rows: int) -> bool:
    """Whether matrices of so many rows in this format can lie in panels."""
    return block_format.name in FIELDS and num_rows % PANEL_ROWS == 0


def rows_of_panels(block_format: BlockFormat, data: Bytes) -> Bytes:
    """Rows [n, row_nbytes] that lie in panels -> the rows themselves, in memory of their own."""
    order, block_nbytes = _order(block_format.name), block_format.block_nbytes
    panels = np.ascontiguousarray(data).reshape(-1, len(order))
    blocks = np.empty_like(panels)
    blocks[:, order] = panels
    by_place = blocks.reshape(-1, data.shape[-1] // block_nbytes, PANEL_ROWS, block_nbytes)
    return np.ascontiguousarray(by_place.transpose(0, 2, 1, 3)).reshape(data.shape)


@cache
def _order(name: str) -> NDArray[np.intp]:
    """Of each byte of 16 interleaved blocks, its place among the 16 blocks one after the other."""
    block_nbytes = format_by_name(name).block_nbytes
    rows = np.arange(PANEL_ROWS)[:, None] * block_nbytes
    places, start = [], 0
    for width, count in FIELDS[name]:
        for _ in range(count):
            places.append((rows + start + np.arange(width)).reshape(-1))
            start += width
    return np.concatenate(places)
