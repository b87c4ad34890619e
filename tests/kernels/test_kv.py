"""Blocks, tables and what lies where in a block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernels.tables import alone, new_pool, new_table, random

from apportion.core.errors import NotFound
from apportion.kernels import KvPool, KvTable, LayerShape, NativeOps, ReferenceOps, Segment, page_layout
from apportion.kernels.kv_rows import read_rows

MakeOps = Callable[..., NativeOps]
SHAPE = LayerShape(2, 8, 6)


def test_pages_follow_one_another_at_whole_cache_lines_and_blocks_are_whole_disk_pages() -> None:
    layout = page_layout([LayerShape(3, 20, 10), LayerShape(1, 48, 32, joint=True)], ["f16", "f32"])
    first, second = layout.layers
    assert (first.offset, first.head.values_offset, first.head_nbytes) == (0, 32 * 40, 1920)
    assert (second.offset, second.head_nbytes) == (3 * 1920, 32 * 48 * 4)
    assert layout.block_nbytes == 12288
    assert all(pages.offset % 64 == pages.head_nbytes % 64 == 0 for pages in layout.layers)


def test_codecs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(NotFound, match="unknown KV codec"):
        page_layout([SHAPE], "f8")
    with pytest.raises(ValueError, match="zip"):
        page_layout([SHAPE], ["f16", "f16"])


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    parts=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 50)), min_size=1, max_size=4),
    heads=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    joint=st.booleans(),
    codec=st.sampled_from(["f16", "f32"]),
)
def test_append_writes_its_places_as_the_reference_does_and_no_others(
    make_ops: MakeOps,
    parts: list[tuple[int, int]],
    heads: int,
    widths: tuple[int, int],
    joint: bool,
    codec: str,
) -> None:
    shape = LayerShape(heads, max(widths) if joint else widths[0], min(widths) if joint else widths[1], joint)
    pools, tables = [], []
    count = sum(num_tokens for _, num_tokens in parts)
    # Numbers of all sizes, so that halves overflow, become subnormal and vanish.
    sizes = np.float32(10.0) ** np.random.default_rng(1).uniform(-9, 9, (count, heads, 1)).astype(np.float32)
    k, v = (
        random(2, count, heads, shape.key_width) * sizes,
        random(3, count, heads, shape.value_width) * sizes,
    )
    for ops in (make_ops(threads=2), ReferenceOps()):
        pools.append(new_pool(shape, 4 * len(parts), codec, layers=2))
        pools[-1].memory[:] = 7
        tables = [KvTable() for _ in parts]
        for i, table in enumerate(tables):
            for block in range(4):
                table.append(pools[-1], 4 * i + 3 - block)
        batch = [Segment(table, *part) for table, part in zip(tables, parts, strict=True)]
        ops.append(batch, 1, k, None if joint else v)
    np.testing.assert_array_equal(pools[0].memory, pools[1].memory)
    start, num_tokens = parts[-1]
    keys, values = read_rows(tables[-1], 1, heads - 1, start + num_tokens)
    expected, stored = k[-num_tokens:, -1], {"f16": np.float16, "f32": np.float32}[codec]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(keys[start:], expected.astype(stored))
        if joint:
            np.testing.assert_array_equal(values, keys[:, : shape.value_width])
        else:
            np.testing.assert_array_equal(values[start:], v[-num_tokens:, -1].astype(stored))


def test_halves_are_rounded_to_even_and_what_is_not_a_number_stays(make_ops: MakeOps) -> None:
    every_half = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every_half[np.isfinite(every_half)].astype(np.float32)
    with np.errstate(over="ignore"):
        next_up = np.nextafter(finite.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    between = (finite + next_up) / 2
    x = np.concatenate(
        [finite, between[np.isfinite(between)], np.array([np.nan, np.inf, -np.inf, 65520, 1e-8], np.float32)]
    )
    table = new_table(1, LayerShape(1, len(x), 1), "f16")
    make_ops().append(alone(table, 0, 1), 0, x[None, None], np.zeros((1, 1, 1), np.float32))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(read_rows(table, 0, 0, 1)[0][0], x.astype(np.float16))


def test_tables_share_blocks_and_go_ways_of_their_own() -> None:
    pool, trunk, ops = new_pool(SHAPE, 4), KvTable(), NativeOps(1)
    trunk.append(pool, 0)
    trunk.append(pool, 1)
    k, v = random(1, 60, 2, 8), random(2, 60, 2, 6)
    ops.append(alone(trunk, 0, 40), 0, k[:40], v[:40])
    branch = KvTable()
    branch.append(pool, 0)
    pool.blocks[2] = pool.blocks[1]  # the last block is not full: each goes on in a copy
    branch.append(pool, 2)
    ops.append(alone(trunk, 40, 5), 0, k[40:45], v[40:45])
    ops.append(alone(branch, 40, 5), 0, k[50:55], v[50:55])
    np.testing.assert_array_equal(read_rows(trunk, 0, 1, 45)[0], k[:45, 1])
    np.testing.assert_array_equal(read_rows(branch, 0, 1, 45)[0], np.concatenate([k[:40, 1], k[50:55, 1]]))


def test_a_table_is_cut_and_its_blocks_are_replaced() -> None:
    pool, table = new_pool(SHAPE, 4), KvTable()
    for block in range(3):
        table.append(pool, block)
    table.replace(1, pool, 3)
    table.truncate(2)
    assert [page.block for page in table.blocks] == [0, 3]
    assert len(table) == len(table.native) == 2
    table.keep(0, 1, [[(pool, 2, 1)], []])
    assert [page.block for page in table.pages(0, 0)] == [2, 3]
    assert [page.block for page in table.pages(0, 1)] == [3]
    with pytest.raises(ValueError, match="of their own"):
        table.truncate(0)


def test_blocks_that_do_not_exist_are_refused_and_change_nothing() -> None:
    pool, table = new_pool(SHAPE, 2), KvTable()
    table.append(pool, 1)
    for act, what in (
        (lambda: table.append(pool, 2), "no such block"),
        (lambda: table.replace(1, pool, 0), "no such block"),
        (lambda: table.replace(0, pool, 2), "no such block"),
        (lambda: table.truncate(2), "fewer blocks"),
        (lambda: table.keep(0, 2, [[], []]), "fewer blocks"),
        (lambda: table.keep(0, 1, [[(pool, 2, 1)], []]), "no such block"),
        (lambda: table.keep(0, 1, []), "heads"),
    ):
        with pytest.raises(ValueError, match=what):
            act()
    assert [page.block for page in table.blocks] == [1]
    assert len(table.native) == 1


def test_memory_that_is_no_whole_number_of_blocks_is_refused() -> None:
    layout = page_layout([SHAPE], "f16")
    with pytest.raises(ValueError, match="whole number of blocks"):
        KvPool(layout, np.zeros(layout.block_nbytes + 1, np.uint8))
    with pytest.raises(ValueError, match="aligned"):
        KvPool(layout, np.zeros(layout.block_nbytes + 1, np.uint8)[1:])
    frozen = np.zeros(layout.block_nbytes, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        KvPool(layout, frozen)


def test_tokens_enter_only_live_places_that_the_table_owns() -> None:
    pool, table, ops = new_pool(SHAPE, 3), KvTable(), NativeOps(1)
    rows = random(1, 4, 2, 8), random(2, 4, 2, 6)
    table.append(pool, 0, 0x0000FFFF)
    table.append(pool, 1)
    with pytest.raises(ValueError, match="dead"):
        ops.append(alone(table, 14, 4), 0, *rows)
    table.keep(0, 2, [[], []])
    with pytest.raises(ValueError, match="of their own"):
        ops.append(alone(table, 40, 4), 0, *rows)
    other = new_table(64, SHAPE)
    other.keep(0, 1, [[]])
    with pytest.raises(ValueError, match="number of heads"):
        ops.append(alone(other, 40, 4), 0, *rows)
    with pytest.raises(ValueError, match="positions"):
        ops.append([Segment(new_table(64, SHAPE), 0, 4, 2**31)], 0, *rows)
    assert not pool.memory.any()


def test_pools_of_other_shapes_do_not_mix() -> None:
    table = new_table(64, SHAPE)
    table.append(new_pool(LayerShape(2, 8, 7), 1), 0)
    with pytest.raises(ValueError, match="heads or sizes"):
        NativeOps(1).append(alone(table, 0, 1), 0, random(1, 1, 2, 8), random(2, 1, 2, 6))
