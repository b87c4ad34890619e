"""Greedy answers are those of a model that is wholly in memory: at every division of it, under every cache
policy, with every codec whose blocks are what was put in, alone and beside others, and after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.plan import Plan

GREEDY = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)
PROMPTS = [np.random.default_rng(seed).integers(0, 256, 20 + 15 * seed).tolist() for seed in range(4)]
CTX = 128

# From all in memory to next to nothing.
DIVISIONS: dict[str, dict[str, Any]] = {
    "all in memory": {},
    "most experts in memory": {"expert_slots": (6, 7, 6), "stream_buffers": 2},
    "few experts in memory": {"expert_slots": (2, 3, 4), "stream_buffers": 2},
    "a layer that streams": {"expert_slots": (3, 2, 2), "streamed_layers": (1,), "stream_buffers": 2},
    "all layers stream": {"expert_slots": (2, 2, 2), "streamed_layers": (0, 1, 2), "stream_buffers": 2},
}
CACHES = ("lru", "lfu", "lfu_aged", "random")
EXACT = ("f16", "bf16", "f32")  # codecs whose keys and values depend on no neighbour
BATCHES = (1, 4)

every_division = pytest.mark.parametrize("division", DIVISIONS)
every_codec = pytest.mark.parametrize("codec", EXACT)
every_batch = pytest.mark.parametrize("batch", BATCHES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("model"), block_format="q8_0")


@cache
def reference(model: Path, codec: str) -> tuple[Plan, list[tuple[int, ...]]]:
    """The plan that keeps everything, and each prompt's answer, one after the other, with no plan at all."""
    with LLM(model, ram="4GiB", ctx=CTX, kv=codec, concurrency=4) as roomy:
        plan = roomy.plan
    assert plan is not None
    with LLM(model, ctx=CTX, kv=codec) as llm:
        return plan, [llm.generate(prompt, GREEDY).token_ids for prompt in PROMPTS]


def answers(llm: LLM, batch: int) -> Sequence[tuple[int, ...]]:
    return [one.token_ids for one in llm.generate(PROMPTS[:batch], GREEDY)]


@every_batch
@every_codec
@pytest.mark.parametrize("policy", CACHES)
@every_division
def test_answers_are_those_of_the_model_in_memory(
    model: Path, division: str, policy: str, codec: str, batch: int
) -> None:
    plan, expected = reference(model, codec)
    tight = replace(plan, policies=replace(plan.policies, expert_cache=policy), **DIVISIONS[division])
    with LLM(model, plan=tight) as llm:
        assert (llm.residency is None) == (division == "all in memory")
        assert answers(llm, batch) == expected[:batch]


@every_batch
@every_codec
@every_division
def test_answers_are_the_same_after_a_restart(
    model: Path, division: str, codec: str, batch: int, tmp_path: Path
) -> None:
    """What the first process kept on disk, the second finds."""
    plan, expected = reference(model, codec)
    tight = replace(plan, **DIVISIONS[division])
    for again in (False, True):
        with LLM(model, plan=tight, kv_disk="4MiB", kv_dir=tmp_path) as llm:
            requests = [llm.request(prompt, GREEDY) for prompt in PROMPTS[-batch:]]
            found = [one.token_ids for one in llm.run(requests)]
            assert found == expected[-batch:]
            assert any(request.num_cached for request in requests) == again
