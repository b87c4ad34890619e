"""Timing: what is run, how often, beside what, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from apportion.bench import limits, speed
from apportion.bench.limits import Rates
from apportion.bench.speed import Line, Report, Samples, measure, summary
from apportion.kernels import KvPool, KvTable, LayerShape, page_layout
from apportion.kernels.kv import num_blocks_for
from apportion.kernels.kv_rows import read_rows


class Model:
    """Stands for a model; notes the depth and the tokens of every pass."""

    config = SimpleNamespace(vocab_size=9, context_length=4096)

    def __init__(self) -> None:
        self.passes: list[tuple[int, int]] = []

    def new_cache(self, capacity: int, kv: str) -> Cache:
        return Cache(capacity)

    def forward(self, ids: np.ndarray, cache: Cache) -> None:
        self.passes.append((cache.length, len(ids)))
        cache.advance(len(ids))

    forward_best = forward
    calibration = residency = None


class Cache:
    """Stands for a KV cache of one layer with one head."""

    def __init__(self, capacity: int) -> None:
        self.length, self.capacity = 0, capacity
        self.hot_pool = self.tokens_at_once = None
        layout, count = page_layout([LayerShape(1, 8, 8)], "f16"), num_blocks_for(capacity)
        self.pool, self.table = KvPool.of(layout, count), KvTable()
        for block in range(count):
            self.table.append(self.pool, block)

    def segment(self, num_tokens: int) -> None:
        assert num_tokens <= self.capacity

    def truncate(self, length: int) -> None:
        assert length <= self.length
        self.length = length

    def advance(self, count: int) -> None:
        self.length += count
        assert self.length <= self.capacity


@pytest.fixture(autouse=True)
def small_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_NBYTES", 1 << 20)


def measured(lines: list[Line], repetitions: int, model_of: Callable[[int], Model]) -> Report:
    return measure(model_of, lines, repetitions, lambda line: 100.0)


def test_prefill_runs_in_passes_of_512_and_decode_token_by_token_at_its_depth() -> None:
    model = Model()
    measured([Line("prefill", 1100, 1), Line("decode", 3, 1, depth=40)], 2, lambda threads: model)
    assert model.passes == [(0, 512), (512, 512), (1024, 76), (40, 1), (41, 1), (42, 1)] * 3


def test_every_repetition_measures_all_lines_each_beside_the_bandwidth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []

    class FakeBandwidth:
        def __init__(self, threads: int) -> None:
            events.append("fill")

        def measure(self, threads: int) -> float:
            events.append(f"stream {threads}")
            return 20.0

    def run_once(model: Model, cache: Cache, line: Line, samples: Samples) -> None:
        events.append(f"run {line.tokens}")
        samples.tok_s.append(float(line.tokens))
        samples.python_us.append(1.0)

    monkeypatch.setattr(speed, "Bandwidth", FakeBandwidth)
    monkeypatch.setattr(speed, "run_once", run_once)
    monkeypatch.setattr(speed, "peak_rss_bytes", lambda: events.append("peak") or 7)
    report = measured([Line("decode", 5, 1), Line("decode", 6, 2)], 2, lambda threads: Model())
    warm_up = ["run 5", "run 6", "peak", "fill"]
    assert events == warm_up + ["stream 1", "run 5", "stream 2", "run 6"] * 2
    assert report.peak_rss_bytes == 7


def test_progress_counts_the_uncounted_runs_too() -> None:
    told: list[tuple[int, int, str]] = []
    measure(
        lambda threads: Model(), [Line("decode", 8, 2)], 3, lambda _: 1.0, lambda *event: told.append(event)
    )
    assert [event[:2] for event in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert "decode 8, 2 threads" in told[0][2]


def test_each_number_of_threads_asks_for_its_own_model_once() -> None:
    asked = []

    def model_of(threads: int) -> Model:
        asked.append(threads)
        return Model()

    measured([Line("decode", 1, 2), Line("decode", 1, 1), Line("prefill", 1, 2)], 1, model_of)
    assert asked == [1, 2]


def test_the_cache_holds_ordinary_numbers_at_every_position() -> None:
    cache = speed.filled_cache(Model(), 30)
    for rows in read_rows(cache.table, 0, 0, 30):
        assert len(rows) == 30
        assert (np.abs(rows) > 1e-4).all()


def test_the_share_of_bandwidth_is_bytes_per_second_by_streamed_bytes() -> None:
    samples = Samples(
        tok_s=[90.0, 100.0, 110.0], bandwidth_gb_s=[39.0, 40.0, 44.0], python_us=[30.0, 10.0, 20.0]
    )
    found = summary(Line("decode", 16, 2, depth=3), samples, 100_000_000)
    assert (found.phase, found.tokens, found.depth, found.threads) == ("decode", 16, 3, 2)
    assert found.tok_s == Rates(100.0, 90.0, 110.0)
    assert found.bandwidth_gb_s == Rates(40.0, 39.0, 44.0)
    assert found.bandwidth_share == pytest.approx(100 * 1e8 / 40e9)
    assert found.python_us_per_step == 20.0
