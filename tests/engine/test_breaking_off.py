"""A pass over layers that come from the disk ends early where nobody wants it any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.engine import LLM, SamplingParams
from apportion.engine.request import Request

PROMPT = np.arange(60, dtype=np.int32)
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


@pytest.fixture
def llm(tmp_path: Path) -> Iterator[LLM]:
    path = tiny_gguf("olmoe", tmp_path, block_format="q8_0")
    with LLM(path, ram="4GiB", concurrency=2) as whole:
        assert whole.plan is not None
        plan = replace(whole.plan, expert_slots=(2, 3, 4))
    with LLM(path, plan=plan) as streamed:
        yield streamed


def cancelling(llm: LLM, at: int, *requests: Request) -> list[int]:
    """The requests are cancelled when a pass has come to a layer; the layers that are reached."""
    residency, seen = llm.model.residency, list[int]()
    assert residency is not None

    def note(layer: int, ids: np.ndarray) -> None:  # type: ignore[type-arg]
        seen.append(layer)
        if layer == at:
            for request in requests:
                request.cancelled = True

    residency.on_route = note
    return seen


def test_layers_after_the_one_where_all_were_cancelled_are_not_read(llm: LLM) -> None:
    expected = llm.generate(PROMPT[::-1].copy(), GREEDY).token_ids
    requests = [llm.engine.add(llm.request(PROMPT + i, GREEDY)) for i in range(2)]
    seen = cancelling(llm, 0, *requests)
    assert llm.engine.step() == []
    assert seen == [0]
    llm.engine.step()
    assert all(request.is_over for request in requests)
    assert llm.generate(PROMPT[::-1].copy(), GREEDY).token_ids == expected


def test_one_that_is_wanted_still_keeps_the_pass_going(llm: LLM) -> None:
    expected = llm.generate(PROMPT, GREEDY).token_ids
    wanted, other = (llm.engine.add(llm.request(ids, GREEDY)) for ids in (PROMPT, PROMPT + 1))
    seen = cancelling(llm, 0, other)
    llm.engine.finish(wanted)
    assert seen[:3] == [0, 1, 2]
    assert wanted.completion.token_ids == expected
    assert other.is_over
