from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench.requests import Arrival, Served, goodput, measure_together, seen, serve
from apportion.engine import LLM


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    path = tiny_gguf("llama", tmp_path_factory.mktemp("tiny"))
    return LLM(path, threads=1, ctx=64, concurrency=4)


def test_requests_that_are_there_together_are_counted_as_one_workload(llm: LLM) -> None:
    told: list[tuple[int, int]] = []
    line = measure_together(llm, 3, prompt=8, output=4, repetitions=2, on_run=lambda *run: told.append(run))
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert line.output_tok_s.min > 0
    assert line.decode_tok_s.median >= line.output_tok_s.median
    assert line.ttft_s.median > 0 < line.tpot_s.median
    assert line.disk_bytes_per_token is None


def test_a_request_is_timed_from_its_own_arrival(llm: LLM) -> None:
    ids = np.arange(5, dtype=np.int32)
    early, late = serve(llm, [Arrival(0.0, ids, 2), Arrival(0.2, ids, 3)])
    assert early.ttft_s < 0.2
    assert late.ttft_s < 0.2


def test_gaps_are_between_tokens() -> None:
    assert seen(1.0, [1.5, 2.0, 4.0]) == Served(0.5, 1.25, 2.0)
    assert seen(1.0, [3.0]) == Served(2.0, 0.0, 0.0)


def test_goodput_counts_requests_that_met_both_limits() -> None:
    served = [Served(0.1, 0.01, 0.0), Served(0.9, 0.01, 0.0), Served(0.1, 0.2, 0.0)]
    assert goodput(served, ttft_s=0.5, tpot_s=0.1, seconds=2.0) == 0.5
