"""Rows of pages as NumPy arrays: the reference for what the core reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from apportion.formats.block import Floats
from apportion.kernels.kv import KvTable, Page, live_rows
from apportion.kernels.kv_codec import BLOCK_TOKENS


def read_rows(table: KvTable, layer: int, head: int, end: int) -> tuple[Floats, Floats]:
    """Keys [n, D] and values [n, Dv] of the live places before `end`, a place of the table."""
    pages = table.pages(layer, head)
    own_end = end + BLOCK_TOKENS * (len(pages) - len(table))
    pages = pages[: -(-own_end // BLOCK_TOKENS)]
    runs = [read_pages(list(run), layer, head) for _, run in groupby(pages, lambda page: id(page.pool))]
    keys, values = (np.concatenate(rows)[:own_end] for rows in zip(*runs, strict=True))
    live = live_rows(pages)[:own_end]
    return (keys, values) if live.all() else (keys[live], values[live])


def read_pages(pages: Sequence[Page], layer: int, head: int) -> tuple[Floats, Floats]:
    """Keys and values of pages of one pool, the dead ones too."""
    pool = pages[0].pool
    shares = pool.layout.layers[layer]
    begin = shares.offset + head * shares.head_nbytes
    found = [pool.blocks[page.block, begin : begin + shares.head.nbytes] for page in pages]
    keys, values = zip(*(shares.head.decode(page) for page in found), strict=True)
    return np.concatenate(keys), np.concatenate(values)


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
    shares = page.pool.layout.layers[layer]
    begin = shares.offset + head * shares.head_nbytes
    shares.head.encode(page.pool.blocks[page.block, begin : begin + shares.head.nbytes], row, keys, values)
