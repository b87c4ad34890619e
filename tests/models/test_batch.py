"""Many sequences in one pass: each as if it were alone, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_model

from apportion.core.errors import ContextOverflow, UsageError
from apportion.formats.block import Floats
from apportion.kernels import KvPool, KvTable, NativeOps, ReferenceOps, Segment
from apportion.kernels.ops import Ints
from apportion.models import Model
from apportion.models.cache import kv_layout

LENGTHS = (41, 1, 90, 33)
FAMILIES = ("llama", "gemma3", "olmoe", "deepseek2", "gpt_oss")


class Room:
    """Blocks for a model's sequences, handed out in an order that follows nothing."""

    def __init__(self, model: Model, codec: str = "f16", num_blocks: int = 64) -> None:
        self.pool = KvPool.of(kv_layout(model.config, codec), num_blocks)
        self.free = list(np.random.default_rng(1).permutation(num_blocks))

    def table(self, num_positions: int) -> KvTable:
        table = KvTable()
        for _ in range(-(-num_positions // 32)):
            table.append(self.pool, int(self.free.pop()))
        return table


def sequences(seed: int = 7) -> list[Ints]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 300, length).astype(np.int32) for length in LENGTHS]


def cut(
    tables: Sequence[KvTable], ids: Sequence[Ints], ends: Sequence[tuple[int, int]]
) -> tuple[Ints, list[Segment]]:
    """Tokens first..last-1 of every sequence that has some, and where they go."""
    source, batch = [], []
    for table, own, (first, last) in zip(tables, ids, ends, strict=True):
        if own[first:last].size:
            source.append(own[first:last])
            batch.append(Segment(table, first, len(own[first:last])))
    return np.concatenate(source), batch


def each_alone(model: Model, ids: Sequence[Ints]) -> list[Floats]:
    room = Room(model)
    return [model.run(own, [Segment(room.table(len(own)), 0, len(own))], want="all") for own in ids]


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_and_single_tokens_of_many_sequences_are_as_each_alone(name: str, tmp_path: Path) -> None:
    model, ids = tiny_model(name, tmp_path, NativeOps(threads=2), block_format="q8_0"), sequences()
    expected, room = each_alone(model, ids), Room(model)
    tables = [room.table(len(own)) for own in ids]
    # A prompt as a whole beside a part of another; then what is left of it beside single tokens.
    for ends in (
        [(0, 41), (0, 0), (0, 50), (0, 31)],
        [(0, 0), (0, 1), (50, 90), (31, 32)],
        [(0, 0), (0, 0), (0, 0), (32, 33)],
    ):
        source, batch = cut(tables, ids, ends)
        logits, end = model.run(source, batch, want="all"), 0
        for segment in batch:
            begin, end = end, end + segment.num_tokens
            own = expected[tables.index(segment.table)][segment.start : segment.start + segment.num_tokens]
            np.testing.assert_array_equal(logits[begin:end], own)


@pytest.mark.parametrize("name", ["llama", "olmoe"])
def test_logits_are_of_the_last_of_each_of_all_or_of_some(name: str, tmp_path: Path) -> None:
    model, ids = tiny_model(name, tmp_path, NativeOps(threads=2)), sequences()
    room = Room(model)
    source, batch = cut([room.table(len(own)) for own in ids], ids, [(0, 99)] * 4)
    every = model.run(source, batch, want="all")
    np.testing.assert_array_equal(model.run(source, batch), every[np.cumsum(LENGTHS) - 1])
    some = np.array([0, 3, 41, 42, 164], np.int32)
    np.testing.assert_array_equal(model.run(source, batch, want=some), every[some])


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_may_run_apart(name: str, tmp_path: Path) -> None:
    model, ids = tiny_model(name, tmp_path, NativeOps(threads=2)), sequences()
    room = Room(model)
    source, batch = cut([room.table(len(own)) for own in ids], ids, [(0, 99)] * 4)
    whole = model.run(source, batch)
    _, batch = cut([room.table(len(own)) for own in ids], ids, [(0, 99)] * 4)
    x = model.run(source, batch, 0, 2, "hidden")
    np.testing.assert_array_equal(model.run(x, batch, 2), whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_runs_batches_alike(name: str, tmp_path: Path) -> None:
    ids, logits = sequences(), []
    for ops in (NativeOps(threads=2, exact=True), ReferenceOps()):
        one = tiny_model(name, tmp_path, ops)
        room = Room(one, "f32")
        tables = [room.table(len(own)) for own in ids]
        one.run(*cut(tables, ids, [(0, 40), (0, 0), (0, 50), (0, 31)]))
        logits.append(one.run(*cut(tables, ids, [(40, 41), (0, 1), (50, 90), (31, 33)])))
    np.testing.assert_allclose(logits[0], logits[1], rtol=2e-3, atol=2e-3)


def test_a_branch_shares_its_trunks_blocks(tmp_path: Path) -> None:
    model, ids = tiny_model("llama", tmp_path, NativeOps(threads=2), block_format="q8_0"), sequences()
    room, others = Room(model), sequences(8)
    trunk = room.table(96)
    model.run(ids[2][:50], [Segment(trunk, 0, 50)])
    branch, copy = KvTable(), int(room.free.pop())
    branch.append(*trunk.blocks[0])
    room.pool.blocks[copy] = room.pool.blocks[trunk.blocks[1].block]
    branch.append(room.pool, copy)
    branch.append(room.pool, int(room.free.pop()))
    both = model.run(
        np.concatenate([ids[2][50:], others[2][50:]]), [Segment(trunk, 50, 40), Segment(branch, 50, 40)]
    )
    expected = each_alone(model, [ids[2], np.concatenate([ids[2][:50], others[2][50:]])])
    np.testing.assert_array_equal(both, [rows[-1] for rows in expected])


def test_positions_may_differ_from_places(tmp_path: Path) -> None:
    model, ids = tiny_model("llama", tmp_path, NativeOps(threads=2)), sequences()[0]
    room = Room(model)
    table = room.table(96)
    model.run(ids[:20], [Segment(table, 0, 20)])
    table.replace(0, *table.blocks[0][:2], (1 << 20) - 1)  # 12 places stay empty
    gap = model.run(ids[20:], [Segment(table, 32, 21, position=20)], want="all")
    np.testing.assert_allclose(gap, each_alone(model, [ids])[0][20:], rtol=1e-4, atol=1e-4)


def test_batches_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    model, ids = tiny_model("llama", tmp_path, NativeOps(threads=2)), sequences()[0]
    room = Room(model)
    table = room.table(64)
    with pytest.raises(ContextOverflow, match="longer than the context"):
        model.run(ids[:5], [Segment(table, 60, 5)])
    with pytest.raises(UsageError, match="outside of the vocabulary"):
        model.run(ids[:5] + 1000, [Segment(table, 0, 5)])
    with pytest.raises(UsageError, match="no tokens"):
        model.run(ids[:0], [])
    with pytest.raises(ValueError, match="number of tokens"):
        model.run(ids[:5], [Segment(table, 0, 4)])
    for rows in ([], [3, 3], [4, 2], [5], [-1]):
        with pytest.raises(ValueError, match="rows"):
            model.run(ids[:5], [Segment(table, 0, 5)], want=np.array(rows, np.int32))
    table.truncate(0)  # what was refused does not use it any more


def test_layers_with_windows_refuse_tables_with_gaps(tmp_path: Path) -> None:
    model, ids = tiny_model("gemma3", tmp_path, NativeOps(threads=2)), sequences()[0]
    table = Room(model).table(64)
    table.replace(0, *table.blocks[0][:2], 1)
    with pytest.raises(ValueError, match="window"):
        model.run(ids[:5], [Segment(table, 32, 5)])
