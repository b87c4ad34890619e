"""Rows of pages as NumPy arrays: the reference for what the core reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv import BLOCK_TOKENS, KvTable, LayerPages, Page, live_rows, row_nbytes

DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}
Rows = NDArray[Any]  # [n, width], float16 or float32


def read_rows(table: KvTable, layer: int, head: int, end: int) -> tuple[Rows, Rows]:
    """Keys [n, D] and values [n, Dv] of the live places before `end`, a place of the table."""
    pages = table.pages(layer, head)
    own_end = end + BLOCK_TOKENS * (len(pages) - len(table))
    pages = pages[: -(-own_end // BLOCK_TOKENS)]
    runs = [read_pages(list(run), layer, head) for _, run in groupby(pages, lambda page: id(page.pool))]
    keys, values = (np.concatenate(rows)[:own_end] for rows in zip(*runs, strict=True))
    live = live_rows(pages)[:own_end]
    return (keys, values) if live.all() else (keys[live], values[live])


def read_pages(pages: Sequence[Page], layer: int, head: int) -> tuple[Rows, Rows]:
    """Keys and values of pages of one pool, the dead ones too."""
    pool = pages[0].pool
    shares = pool.layout.layers[layer]
    begin = shares.offset + head * shares.head_nbytes
    found = pool.blocks[[page.block for page in pages], begin : begin + shares.head_nbytes]
    shape = shares.shape
    keys = decode_rows(found, 0, shape.key_width, shares.codec)
    if shape.joint:
        return keys, keys[:, : shape.value_width]
    return keys, decode_rows(found, shares.values_offset, shape.value_width, shares.codec)


def decode_rows(pages: Bytes, offset: int, width: int, codec: str) -> Rows:
    """Pages [n, nbytes] -> their rows of keys or values, which begin at an offset: [n * 32, width]."""
    rows = pages[:, offset : offset + BLOCK_TOKENS * row_nbytes(codec, width)]
    return np.ascontiguousarray(rows).view(DTYPES[codec]).reshape(-1, width)


def write_rows(table: KvTable, layer: int, start: int, keys: Floats, values: Floats | None) -> None:
    """Keys [T, G, D] and values [T, G, Dv] of tokens that enter the table at the places start.. ."""
    for head in range(keys.shape[1]):
        pages = table.pages(layer, head)
        place = start + BLOCK_TOKENS * (len(pages) - len(table))
        token = 0
        while token < len(keys):
            page, row = pages[(place + token) // BLOCK_TOKENS], (place + token) % BLOCK_TOKENS
            count = min(BLOCK_TOKENS - row, len(keys) - token)
            some = slice(token, token + count)
            write_page(
                page, layer, head, row, keys[some, head], None if values is None else values[some, head]
            )
            token += count


def write_page(page: Page, layer: int, head: int, row: int, keys: Floats, values: Floats | None) -> None:
    """Rows row.. of a head's page."""
    shares: LayerPages = page.pool.layout.layers[layer]
    begin = shares.offset + head * shares.head_nbytes
    parts = [(begin, keys)] if values is None else [(begin, keys), (begin + shares.values_offset, values)]
    for offset, rows in parts:
        nbytes = row_nbytes(shares.codec, rows.shape[1])
        with np.errstate(over="ignore"):  # too large for 16 bits is infinite
            codes = np.ascontiguousarray(rows.astype(DTYPES[shares.codec])).view(np.uint8)
        at = offset + row * nbytes
        page.pool.blocks[page.block, at : at + codes.size] = codes.reshape(-1)
