"""The hot window: what is hot when, what it is encoded into, and that blocks come back."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.block import Floats
from apportion.kernels import BLOCK_TOKENS, KvPool, KvTable, LayerShape, page_layout
from apportion.kernels.kv_rows import read_rows, write_rows
from apportion.models.hot_window import HOT_BLOCKS, WINDOW, HotPool, HotWindow, num_hot_blocks

SHAPE = LayerShape(2, 24, 16)


class Sequence:
    """A sequence of random keys and values, beside what they were."""

    def __init__(self, capacity: int, hot_blocks: int = HOT_BLOCKS) -> None:
        blocks = -(-capacity // BLOCK_TOKENS)
        self.cold = KvPool.of(page_layout([SHAPE], "q4"), blocks)
        self.hot = HotPool(KvPool.of(page_layout([SHAPE], "f16"), hot_blocks))
        self.table = KvTable()
        for block in range(blocks):
            self.table.append(self.cold, block)
        self.window = HotWindow(self.table, self.hot)
        rng = np.random.default_rng(0)
        self.keys, self.values = (
            rng.standard_normal((capacity, 2, width), dtype=np.float32) for width in (24, 16)
        )
        self.length = 0

    def add(self, num_tokens: int) -> None:
        some = slice(self.length, self.length + num_tokens)
        self.window.prepare(self.length, num_tokens)
        write_rows(self.table, 0, self.length, self.keys[some], self.values[some])
        self.length += num_tokens
        self.window.settle(self.length - num_tokens, self.length)

    def errors(self) -> Floats:
        """How far each position's keys are off, at most."""
        keys = [read_rows(self.table, 0, head, self.length)[0] for head in range(2)]
        return np.abs(np.stack(keys, axis=1) - self.keys[: self.length]).max(axis=(1, 2))


@pytest.mark.parametrize("step", [1, 7, 32, 100, 128])
def test_sinks_and_the_last_positions_are_hot_and_all_others_are_codes(step: int) -> None:
    sequence = Sequence(700)
    while sequence.length + step <= 700:
        sequence.add(step)
        exact = sequence.errors() < 0.003
        assert exact[:BLOCK_TOKENS].all()
        assert exact[-WINDOW:].all()
        assert not exact[BLOCK_TOKENS : max(0, sequence.length - WINDOW - BLOCK_TOKENS)].any()
        assert (sequence.errors() < 0.25).all()


def test_every_token_is_in_the_cold_pool_as_codes_of_what_was_computed() -> None:
    sequence = Sequence(200)
    for step in (1, 30, 40, 7, 100, 22):
        sequence.add(step)
        halves, codes = KvTable(), KvTable()
        layouts = [page_layout([SHAPE], name) for name in ("f16", "q4")]
        source, target = (KvPool.of(layout, sequence.cold.num_blocks) for layout in layouts)
        for block in range(sequence.cold.num_blocks):
            halves.append(source, block)
            codes.append(sequence.cold, block)
        some = slice(0, sequence.length)
        write_rows(halves, 0, 0, sequence.keys[some], sequence.values[some])
        for block in range(sequence.cold.num_blocks):
            target.encode(block, source, block)
        cold = KvTable()
        for block in range(sequence.cold.num_blocks):
            cold.append(target, block)
        for head in range(2):
            ours, theirs = (read_rows(table, 0, head, sequence.length) for table in (codes, cold))
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_pass_that_is_too_long_has_its_first_tokens_as_codes_at_once() -> None:
    sequence = Sequence(2000)
    sequence.add(2000)
    exact = sequence.errors() < 0.003
    assert exact[:BLOCK_TOKENS].all()
    assert exact[-WINDOW:].all()
    assert not exact[BLOCK_TOKENS : 2000 - WINDOW - BLOCK_TOKENS].any()


def test_what_is_cut_off_frees_its_hot_blocks_and_may_grow_anew() -> None:
    sequence = Sequence(600)
    for _ in range(30):
        sequence.add(20)
    for length in (590, 300, 7, 0):
        sequence.window.truncate(length)
        sequence.length = length
        assert all(index * BLOCK_TOKENS < length for index in sequence.window.indices)
        sequence.add(10)
        assert (sequence.errors() < 0.25).all()
    assert sequence.window.indices == [0]
    assert (sequence.errors() < 0.003).all()


def test_closing_gives_the_hot_blocks_back_and_leaves_codes() -> None:
    sequence = Sequence(200)
    sequence.add(200)
    assert len(sequence.hot.free) == HOT_BLOCKS - len(sequence.window.indices) < HOT_BLOCKS
    sequence.window.close()
    assert sorted(sequence.hot.free) == list(range(HOT_BLOCKS))
    assert all(page.pool is sequence.cold for page in sequence.table.blocks)
    assert (sequence.errors() < 0.25).all()
    assert not (sequence.errors() < 0.003).any()


def test_sequences_that_find_no_hot_blocks_are_codes_alone() -> None:
    sequence = Sequence(200)
    taken, sequence.hot.free[:] = list(sequence.hot.free), []
    sequence.add(200)
    assert sequence.window.indices == []
    assert (sequence.errors() < 0.25).all()
    assert not (sequence.errors() < 0.003).any()
    sequence.hot.free += taken


def test_codes_may_get_another_place_while_their_block_is_hot() -> None:
    sequence = Sequence(400)
    sequence.add(100)
    assert sequence.window.exchange(1, sequence.cold, 12)
    assert sequence.table.blocks[1].pool is sequence.hot.pool
    sequence.cold.blocks[12] = sequence.cold.blocks[1]
    for _ in range(10):
        sequence.add(20)
    assert sequence.table.blocks[1][:2] == (sequence.cold, 12)
    assert not sequence.window.exchange(1, sequence.cold, 1)
    assert (sequence.errors() < 0.25).all()


def test_short_sequences_need_no_more_hot_blocks_than_they_have() -> None:
    assert [num_hot_blocks(n) for n in (1, 32, 33, 10_000)] == [1, 1, 2, HOT_BLOCKS]
    sequence = Sequence(64, num_hot_blocks(64))
    sequence.add(64)
    assert (sequence.errors() < 0.003).all()
