"""Attention against the reference over heads, sizes, windows, caps, sinks, tables and long contexts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernels.tables import alone, new_pool, new_table, random, table_of

from apportion.formats.block import Floats
from apportion.kernels import KvTable, LayerShape, NativeOps, ReferenceOps, Segment
from apportion.kernels.kv_rows import write_rows

MakeOps = Callable[..., NativeOps]
REFERENCE = ReferenceOps()
seeded = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def tables(seed: int, groups: int, length: int, dk: int, dv: int, codec: str) -> KvTable:
    return table_of(random(seed, length, groups, dk), random(seed + 1, length, groups, dv), codec)


def agree(ours: Floats, theirs: Floats, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@seeded
@given(
    tokens=st.integers(1, 40),
    groups=st.integers(1, 3),
    per_group=st.sampled_from([1, 2, 3, 5, 40]),
    key_size=st.integers(1, 40),
    value_size=st.integers(1, 40),
    start=st.integers(0, 700),
    window=st.sampled_from([0, 1, 7, 100, 600]),
    softcap=st.sampled_from([0.0, 3.0]),
    sinks=st.booleans(),
    codec=st.sampled_from(["f16", "f32"]),
    seed=st.integers(0, 999),
)
def test_attend_is_the_references(
    make_ops: MakeOps,
    tokens: int,
    groups: int,
    per_group: int,
    key_size: int,
    value_size: int,
    start: int,
    window: int,
    softcap: float,
    sinks: bool,
    codec: str,
    seed: int,
) -> None:
    heads = groups * per_group
    k, v = (
        random(seed, start + tokens + 3, groups, key_size),
        random(seed, start + tokens + 3, groups, value_size),
    )
    k[start + tokens :] = v[start + tokens :] = np.nan  # nobody may look there
    q, own = random(seed + 2, tokens, heads, key_size), alone(table_of(k, v, codec), start, tokens)
    sink = random(seed + 3, heads) if sinks else None
    arguments = (q, own, 0, key_size**-0.5, window, softcap, sink)
    one, two = make_ops(threads=1).attend(*arguments), make_ops(threads=2).attend(*arguments)
    np.testing.assert_array_equal(one, two)
    agree(one, REFERENCE.attend(*arguments))


@pytest.mark.parametrize("window", [0, 300])
@pytest.mark.parametrize(("heads", "size"), [(2, 64), (4, 64), (6, 64), (8, 256), (10, 40), (6, 17)])
def test_a_token_alone_gives_the_same_bits_as_among_others(
    make_ops: MakeOps, heads: int, size: int, window: int
) -> None:
    table, q = tables(4, 2, 1200, size, size, "f16"), random(6, 50, heads, size)
    together = make_ops(threads=2).attend(q, alone(table, 1100, 50), 0, 0.125, window)
    for token in (0, 17, 49):
        by_itself = make_ops(threads=2).attend(
            q[token : token + 1], alone(table, 1100 + token, 1), 0, 0.125, window
        )
        np.testing.assert_array_equal(together[token : token + 1], by_itself)


@seeded
@given(
    parts=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 60)), min_size=1, max_size=9),
    window=st.sampled_from([0, 90]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_sequences_together_give_the_same_bits_as_each_alone(
    make_ops: MakeOps, parts: list[tuple[int, int]], window: int, threads: int, seed: int
) -> None:
    batch = [
        Segment(tables(seed + i, 2, start + count, 16, 16, "f16"), start, count)
        for i, (start, count) in enumerate(parts)
    ]
    q = random(seed, sum(count for _, count in parts), 6, 16)
    together = make_ops(threads=threads).attend(q, batch, 0, 0.25, window)
    end = 0
    for segment in batch:
        begin, end = end, end + segment.num_tokens
        by_itself = make_ops(threads=2).attend(q[begin:end], [segment], 0, 0.25, window)
        np.testing.assert_array_equal(together[begin:end], by_itself)


@pytest.mark.parametrize("codecs", [("f16", "f32"), ("f32", "f16")])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 20])
def test_blocks_of_several_pools_and_codecs_make_one_sequence(
    make_ops: MakeOps, codecs: tuple[str, str], tokens: int
) -> None:
    shape, length = LayerShape(2, 20, 28), 300
    # Halves are the same numbers in both.
    k, v = (
        random(i, length, 2, width).astype(np.float16).astype(np.float32) for i, width in ((1, 20), (2, 28))
    )
    pools, mixed = [new_pool(shape, 10, codec) for codec in codecs], KvTable()
    for block in range(10):
        mixed.append(pools[block in (1, 2, 5, 7)], 9 - block)
    write_rows(mixed, 0, 0, k, v)
    q = random(3, tokens, 4, 20)
    ours = make_ops(threads=2).attend(q, alone(mixed, length - tokens, tokens), 0, 0.2)
    plain = make_ops(threads=2).attend(q, alone(table_of(k, v), length - tokens, tokens), 0, 0.2)
    np.testing.assert_array_equal(ours, plain)
    agree(ours, REFERENCE.attend(q, alone(mixed, length - tokens, tokens), 0, 0.2))


def masks(rng: np.random.Generator, count: int) -> list[int]:
    """Some all live, some with dead rows, some all dead."""
    return [int(rng.choice([0xFFFFFFFF, 0, rng.integers(1 << 32)], p=[0.4, 0.2, 0.4])) for _ in range(count)]


@seeded
@given(
    blocks=st.integers(0, 14),
    tokens=st.integers(1, 70),
    per_group=st.sampled_from([1, 3, 4]),
    codec=st.sampled_from(["f16", "f32"]),
    softcap=st.sampled_from([0.0, 5.0]),
    seed=st.integers(0, 999),
)
def test_dead_places_count_for_nothing_whatever_they_hold(
    make_ops: MakeOps, blocks: int, tokens: int, per_group: int, codec: str, softcap: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, start = LayerShape(2, 24, 16), 32 * blocks
    table = new_table(start + tokens, shape, codec)
    k, v = random(seed, start + tokens, 2, 24), random(seed + 1, start + tokens, 2, 16)
    live = masks(rng, blocks)
    for place in range(start):
        if not live[place // 32] >> place % 32 & 1:
            k[place] = v[place] = rng.choice([np.nan, np.inf, 3.0])
    write_rows(table, 0, 0, k, v)
    for index, mask in enumerate(live):
        table.replace(index, *table.blocks[index][:2], mask)
    q = random(seed + 2, tokens, 2 * per_group, 24)
    sinks = random(seed + 3, 2 * per_group)
    arguments = (q, alone(table, start, tokens), 0, 0.2, 0, softcap, sinks)
    one, two = make_ops(threads=1).attend(*arguments), make_ops(threads=3).attend(*arguments)
    np.testing.assert_array_equal(one, two)
    agree(one, REFERENCE.attend(*arguments))


@seeded
@given(
    first=st.integers(0, 8),
    more=st.integers(0, 3),
    tokens=st.integers(1, 70),
    counts=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    seed=st.integers(0, 999),
)
def test_heads_may_keep_pages_of_their_own(
    make_ops: MakeOps, first: int, more: int, tokens: int, counts: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, start = LayerShape(2, 16, 16), 32 * (first + more) + int(rng.integers(0, 9))
    pool, table = new_pool(shape, 40, "f16", layers=2), KvTable()
    pool.memory[:] = random(seed, pool.memory.size // 2).astype(np.float16).view(np.uint8)
    for block in rng.permutation(40)[: -(-(start + tokens) // 32)]:
        table.append(pool, int(block))
    kept = [[(pool, int(rng.integers(0, 40)), mask) for mask in masks(rng, count)] for count in counts]
    table.keep(1, first, kept)
    own = alone(table, start, tokens)
    k, v, q = (random(seed + i, tokens, heads, 16) for i, heads in enumerate((2, 2, 6)))
    before = pool.memory.copy()
    ours, theirs = make_ops(threads=2), REFERENCE
    theirs.append(own, 1, k, v)
    expected, written = theirs.attend(q, own, 1, 0.25), pool.memory.copy()
    pool.memory[:] = before
    ours.append(own, 1, k, v)
    np.testing.assert_array_equal(pool.memory, written)
    agree(ours.attend(q, own, 1, 0.25), expected)
    agree(ours.attend(q, own, 0, 0.25), theirs.attend(q, own, 0, 0.25))


def test_windows_need_every_place_before(make_ops: MakeOps) -> None:
    q = random(1, 1, 2, 8)
    table = tables(2, 1, 64, 8, 8, "f16")
    table.replace(0, *table.blocks[0][:2], 0xFFFFFFFE)
    with pytest.raises(ValueError, match="window"):
        make_ops().attend(q, alone(table, 40, 1), 0, 1.0, window=5)
    table = tables(2, 1, 64, 8, 8, "f16")
    table.keep(0, 1, [[]])
    with pytest.raises(ValueError, match="window"):
        make_ops().attend(q, alone(table, 40, 1), 0, 1.0, window=5)


def test_latent_attention_reads_values_out_of_the_keys(make_ops: MakeOps) -> None:
    table, q = table_of(random(7, 90, 1, 576), None, "f16", 512), random(8, 3, 20, 576)
    arguments = (q, alone(table, 80, 3), 0, 576**-0.5)
    agree(make_ops(threads=2).attend(*arguments), REFERENCE.attend(*arguments))


def test_a_later_token_that_is_not_a_number_does_not_reach_an_earlier_one(make_ops: MakeOps) -> None:
    k, v = random(11, 9, 1, 16), random(12, 9, 1, 16)
    k[8] = np.nan
    out = make_ops().attend(random(12, 9, 1, 16), alone(table_of(k, v), 0, 9), 0, 0.25)
    assert np.isfinite(out[:8]).all()
    assert np.isnan(out[8]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_later_value_that_is_not_a_number_does_not_reach_an_earlier_token(
    make_ops: MakeOps, bad: float
) -> None:
    k, v = random(13, 200, 1, 16), random(14, 200, 1, 16)
    v[190:] = bad
    out = make_ops().attend(random(14, 60, 2, 16), alone(table_of(k, v, "f16"), 140, 60), 0, 0.25)
    assert np.isfinite(out[:50]).all()


def test_scores_far_apart_neither_overflow_nor_vanish(make_ops: MakeOps) -> None:
    k, v = random(15, 700, 1, 8) * np.float32(300), random(16, 700, 1, 8)
    q = random(16, 3, 2, 8) * np.float32(300)
    arguments = (q, alone(table_of(k, v), 690, 3), 0, 1.0)
    agree(make_ops(threads=2).attend(*arguments), REFERENCE.attend(*arguments), 2e-2)
