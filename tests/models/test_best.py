"""The best token of a model's head: by bounds or among all logits, it is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import VOCAB, tiny_gguf

from apportion.engine.executor import RunItem
from apportion.engine.model_executor import ModelExecutor
from apportion.formats.gguf import open_gguf
from apportion.kernels import KvPool, NativeOps, ReferenceOps
from apportion.kernels.ops import BestOf
from apportion.kernels.record import COMPARED_AT_A_TIME
from apportion.models import Model, load_model
from apportion.models.bounding import MOST, MOST_ROWS, PAUSE, Bounding
from apportion.models.cache import kv_layouts

IDS = np.random.default_rng(3).integers(0, 300, 60).astype(np.int32)


def model_of(folder: Path, name: str = "llama", block_format: str = "q8_0", **ops: bool) -> Model:
    with open_gguf(tiny_gguf(name, folder, block_format=block_format)) as checkpoint:
        return load_model(checkpoint, NativeOps(2, **ops))


def test_only_heads_that_are_split_find_it_by_bounds(tmp_path: Path) -> None:
    assert model_of(tmp_path).finds_best
    assert model_of(tmp_path, "llama-tied").finds_best
    assert not model_of(tmp_path, block_format="f32").finds_best
    assert not model_of(tmp_path, exact=True).finds_best
    assert not model_of(
        tmp_path, "granitemoe"
    ).finds_best  # its logits are scaled, which may make two of them equal
    assert not model_of(tmp_path, "gemma2").finds_best  # and these are bounded


@pytest.mark.parametrize("name", ["llama", "llama-tied", "granitemoe", "olmoe"])
def test_the_best_is_the_largest_logit(tmp_path: Path, name: str) -> None:
    model = model_of(tmp_path, name)
    cache, other = model.new_cache(64), model.new_cache(64)
    for start, count in ((0, 20), (20, 1), (21, 3)):
        logits = model.forward(IDS[start : start + count], cache)
        best = model.forward_best(IDS[start : start + count], other)
        assert best.ids == [logits.argmax()]
        assert best.logits == [logits.max()]
    assert cache.length == other.length


def test_a_backend_without_bounds_gives_it_too(tmp_path: Path) -> None:
    with open_gguf(tiny_gguf("llama", tmp_path, block_format="q8_0")) as checkpoint:
        model = load_model(checkpoint, ReferenceOps())
    assert not model.finds_best
    logits = model.forward(IDS, model.new_cache(64))
    assert model.forward_best(IDS, model.new_cache(64)).ids == [logits.argmax()]


@pytest.mark.parametrize("block_format", ["q8_0", "q4_0"])
def test_a_step_gives_each_item_what_it_asks_for(tmp_path: Path, block_format: str) -> None:
    model = model_of(tmp_path, block_format=block_format)
    pool = KvPool.of(kv_layouts(model.config, "f16").cold, 8)
    asked = [None, BestOf(VOCAB), BestOf(VOCAB - 3, (7, 9)), BestOf(VOCAB)]
    counts, rows = (1, 20, 9, 4), (1, 3, 2, 0)

    def run(asked: list[BestOf | None], layers: list[tuple[int, int]]) -> list:
        executor = ModelExecutor(model, pool)
        assert executor.finds_best
        tables = [executor.new_table() for _ in asked]
        for number, table in enumerate(tables):
            table.append(2 * number)
        for first, last in layers:
            found = executor.run(
                [
                    RunItem(
                        i, IDS[: counts[i]], tables[i], 0, first, last, rows[i] if last == 3 else 0, best=best
                    )
                    for i, best in enumerate(asked)
                ]
            )
        return list(found)

    logits = run([None] * 4, [(0, 3)])
    for layers in ([(0, 3)], [(0, 1), (1, 3)]):
        found = run(asked, layers)
        np.testing.assert_array_equal(found[0], logits[0])
        if not model.finds_best:  # all logits are computed for the first item in any case
            for own, expected in zip(found[1:3], logits[1:3], strict=True):
                np.testing.assert_array_equal(own, expected)
            continue
        np.testing.assert_array_equal(found[1].ids, logits[1].argmax(axis=1))
        allowed = logits[2][:, : VOCAB - 3].copy()
        allowed[:, [7, 9]] = -np.inf
        np.testing.assert_array_equal(found[2].ids, allowed.argmax(axis=1))
        np.testing.assert_array_equal(found[2].logits, allowed.max(axis=1))
        assert found[3] is None


@pytest.mark.parametrize("block_format", ["q8_0", "q4_0"])
def test_items_that_want_the_best_alone_get_no_logits(tmp_path: Path, block_format: str) -> None:
    model = model_of(tmp_path, block_format=block_format)
    executor = ModelExecutor(model, KvPool.of(kv_layouts(model.config, "f16").cold, 8))

    def run(best: BestOf | None) -> list:
        tables = [executor.new_table() for _ in range(3)]
        for number, table in enumerate(tables):
            table.append(number)
        lengths = (9, 1, 4)
        return list(
            executor.run(
                [RunItem(i, IDS[i : i + lengths[i]], tables[i], 0, 0, 3, 1, best=best) for i in range(3)]
            )
        )

    for found, logits in zip(run(BestOf(VOCAB - 3, (7, 9))), run(None), strict=True):
        logits[0, [7, 9]] = -np.inf
        assert found.ids == [logits[0, : VOCAB - 3].argmax()]
        assert found.logits == [logits[0, : VOCAB - 3].max()]


def test_bounds_that_spare_little_are_left_for_a_while() -> None:
    bounding = Bounding()
    for _ in range(100):
        assert bounding.pays(1)
        bounding.took(MOST / 2)
    while bounding.pays(1):
        bounding.took(1.0)
    assert [bounding.pays(1) for _ in range(PAUSE)] == [False] * (PAUSE - 1) + [True]
    bounding.took(0.0)
    bounding.took(0.0)
    bounding.took(0.0)
    bounding.took(0.0)
    assert all(bounding.pays(MOST_ROWS) for _ in range(PAUSE))
    assert not bounding.pays(MOST_ROWS + 1)


def test_how_much_bounds_spared_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = model_of(tmp_path), list[float]()
    monkeypatch.setattr(model._bounding, "took", told.append)
    best = model.forward_best(IDS, model.new_cache(64))
    assert told == [best.share]
    assert 0 < best.share <= 1
    x = model.run(IDS, [model.new_cache(64).segment(len(IDS))], want="hidden")
    few = model.best(x[:MOST_ROWS], BestOf(VOCAB))
    assert told[1:] == [few.share * MOST_ROWS]
    assert model.best(x[: MOST_ROWS + 1], BestOf(VOCAB)).share == 1
    monkeypatch.setattr(model._bounding, "pays", lambda num_rows: False)
    assert model.forward_best(IDS, model.new_cache(64)).share == 1
    assert len(told) == 2


def test_without_bounds_the_best_is_the_same(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    x = model.run(IDS, [model.new_cache(64).segment(len(IDS))], want="hidden")
    by_bounds = model.best(x[:MOST_ROWS], BestOf(VOCAB))
    assert by_bounds.share < 1.0
    while model._bounding.pays(1):
        model._bounding.took(1.0)
    without = model.best(x[:MOST_ROWS], BestOf(VOCAB))
    assert without.share == 1.0
    np.testing.assert_array_equal(without.ids, by_bounds.ids)
    np.testing.assert_array_equal(without.logits, by_bounds.logits)


def test_more_logits_are_compared_than_a_program_has_room_for(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    program = model._program()
    ids = np.arange(40, dtype=np.int32)
    x = model.run(ids, [model.new_cache(64).segment(40)], want="hidden")
    logits = model.head(x)
    assert COMPARED_AT_A_TIME < 40
    for count in (3, 40, 7):
        rows = np.arange(count, dtype=np.int32)
        found = program.best(x[:count], None, BestOf(VOCAB), rows, model.config.num_layers)
        assert found.ids == logits[:count].argmax(axis=1).tolist()
