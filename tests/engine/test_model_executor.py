"""The executor over codes with a hot window: what it computes is what a cache of one sequence gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_model

from apportion.engine.executor import RunItem
from apportion.engine.model_executor import ModelExecutor, PoolTable
from apportion.kernels import BLOCK_TOKENS, KvPool, NativeOps
from apportion.models import Model
from apportion.models.cache import kv_layouts
from apportion.models.hot_window import HOT_BLOCKS

IDS = np.random.default_rng(3).integers(0, 300, 400).astype(np.int32)
STEPS = (100, 30, 1, 1, 1, 90, 40, 1, 1)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny_model("llama-mistral", tmp_path, NativeOps(2))


def executor_of(model: Model, num_blocks: int, num_hot: int) -> ModelExecutor:
    layouts = kv_layouts(model.config, "q4")
    assert layouts.hot is not None
    pools = KvPool.of(layouts.cold, num_blocks), KvPool.of(layouts.hot, num_hot)
    return ModelExecutor(model, *pools, HOT_BLOCKS)


def enter(executor: ModelExecutor, blocks: range) -> PoolTable:
    table = executor.new_table()
    for block in blocks:
        table.append(block)
    return table


def item(table: PoolTable, request: int, start: int, count: int) -> RunItem:
    return RunItem(request, IDS[start : start + count], table, start, 0, 3, 1)


def test_requests_over_codes_compute_what_a_cache_does(model: Model) -> None:
    executor = executor_of(model, 30, 2 * HOT_BLOCKS)
    tables = [enter(executor, range(15)), enter(executor, range(15, 30))]
    caches = [model.new_cache(15 * BLOCK_TOKENS, "q4") for _ in tables]
    starts = [0, 0]
    for step, count in enumerate(STEPS):
        counts = [count, STEPS[(step + 3) % len(STEPS)]]
        rows = executor.run([item(tables[i], i, starts[i], counts[i]) for i in range(2)])
        for i in range(2):
            expected = model.forward(IDS[starts[i] : starts[i] + counts[i]], caches[i])
            np.testing.assert_array_equal(rows[i], expected)
            starts[i] += counts[i]


def test_layers_may_run_one_after_the_other_over_codes(model: Model) -> None:
    executor, cache = executor_of(model, 15, HOT_BLOCKS), model.new_cache(15 * BLOCK_TOKENS, "q4")
    table, start = enter(executor, range(15)), 0
    for count in STEPS:
        ids = IDS[start : start + count]
        last = model.config.num_layers
        for layer in range(last):
            parts = executor.run([RunItem(0, ids, table, start, layer, layer + 1, int(layer == last - 1))])
        np.testing.assert_array_equal(parts[0], model.forward(ids, cache))
        start += count


@pytest.mark.parametrize("ctx", [32, 160])
def test_a_long_context_has_the_factors_that_are_for_it(tmp_path: Path, ctx: int) -> None:
    model = tiny_model("phi3-long", tmp_path, NativeOps(2))
    assert model.is_long(ctx) == (ctx > 48)
    pool = KvPool.of(kv_layouts(model.config, "f16").cold, 5)
    executor, cache = ModelExecutor(model, pool, ctx=ctx), model.new_cache(ctx, "f16")
    table = enter(executor, range(5))
    for start, count in ((0, 20), (20, 1), (21, 5)):
        expected = model.forward(IDS[start : start + count], cache)
        np.testing.assert_array_equal(executor.run([item(table, 0, start, count)])[0], expected)
        whole = executor.run([RunItem(0, IDS[start : start + count], table, start, 0, 1, 0)])
        whole = executor.run([RunItem(0, IDS[start : start + count], table, start, 1, 3, 1)])
        np.testing.assert_array_equal(whole[0], expected)


def test_where_the_hot_pool_is_used_up_a_request_is_computed_over_codes_alone(model: Model) -> None:
    executor = executor_of(model, 15, 2)
    table = enter(executor, range(15))
    rows = executor.run([item(table, 0, 0, 200)])[0]
    expected = model.forward(IDS[:200], model.new_cache(200, "f16"))
    assert rows is not None
    np.testing.assert_allclose(rows, expected, atol=0.5 * np.abs(expected).max())
    executor.release(table)
    again = enter(executor, range(15))
    again.prepare(0, 1)
    assert again.blocks[0].pool.layout.layers[0].codec == "f16"
