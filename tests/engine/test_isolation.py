"""What one request leaves behind, no other ever sees: salts, and memory that is handed out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.engine.kv import BlockPool
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.kv_codecs import CODECS
from apportion.models.hot_window import HotPool
from apportion.policies.scheduler import SCHEDULERS

GREEDY = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True, logprobs=2)
RNG = np.random.default_rng(9)
# Lengths around the edges of blocks, and one that is longer than the hot window of a codec.
PROMPTS = [RNG.integers(0, 256, count).tolist() for count in (1, 31, 32, 33, 64, 75, 170)]
POISON = 0xFF  # a NaN in every floating-point format that blocks are made of


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("tiny")
    made: dict[str, Path] = {}

    def path(family: str) -> Path:
        if family not in made:
            made[family] = tiny_gguf(family, folder, block_format="q8_0")
        return made[family]

    return path


def poisoned(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block that nobody holds is full of NaN from here on, when it was given back and before."""
    release = BlockPool.release

    def release_and_poison(pool: BlockPool, block: int) -> None:
        release(pool, block)
        if not pool.references(block):
            pool.view(block)[:] = POISON

    monkeypatch.setattr(BlockPool, "release", release_and_poison)
    pool, executor = llm.engine.space.pool, llm.engine._executor
    for block in range(pool.num_blocks):
        pool.view(block)[:] = POISON
    if executor._hot is not None:
        hot: HotPool = executor._hot
        hot.pool.blocks[:] = POISON

        class Poisoning(list):
            def append(self, block: int) -> None:
                hot.pool.blocks[block] = POISON
                super().append(block)

        hot.free = Poisoning(hot.free)


def asked(llm: LLM) -> list[object]:
    """Answers of requests that come, go, yield, are cancelled and begin with what others left, in little
    memory.
    """
    found: list[object] = []
    for turn in range(2):
        requests = [llm.request(np.array(prompt, np.int32), GREEDY) for prompt in PROMPTS]
        given_up = llm.request(np.array(PROMPTS[-1][: 90 + turn], np.int32), GREEDY)
        for request in (*requests[:4], given_up, *requests[4:]):
            llm.engine.add(request)
        llm.engine.step()
        llm.engine.cancel(given_up)
        for request in requests:
            llm.engine.finish(request)
        found += [request.completion.logprobs for request in requests]
    found += [one.logprobs for one in llm.samples(PROMPTS[3], 3, GREEDY)]
    llm.drop_prefixes()
    return [*found, llm.generate(PROMPTS[5], GREEDY).logprobs, llm.embed(PROMPTS[:3]).tolist()]


@pytest.mark.parametrize("kv", [name for name in CODECS if CODECS.get(name).hot is None])
@pytest.mark.parametrize("family", ["llama", "gemma2", "deepseek2", "gpt_oss"])
def test_what_lies_in_blocks_that_are_handed_out_changes_no_number(
    paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str, kv: str
) -> None:
    serving = {"ctx": 192, "concurrency": 2, "threads": 1, "kv": kv}
    with LLM(paths(family), **serving) as llm:
        want = asked(llm)
    with LLM(paths(family), **serving) as llm:
        poisoned(llm, monkeypatch)
        assert asked(llm) == want


@pytest.mark.parametrize("kv", [name for name in CODECS if CODECS.get(name).hot is not None])
def test_nor_does_what_lies_in_hot_blocks(
    paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kv: str
) -> None:
    with LLM(paths("llama"), ctx=192, concurrency=2, threads=1, kv=kv) as llm:
        want = asked(llm)
    with LLM(paths("llama"), ctx=192, concurrency=2, threads=1, kv=kv) as llm:
        poisoned(llm, monkeypatch)
        assert asked(llm) == want


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_under_no_order_of_work(
    paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    serving = {"ctx": 192, "concurrency": 2, "threads": 1}
    with LLM(paths("qwen3moe"), **serving) as llm:
        want = asked(llm)
    with LLM(paths("qwen3moe"), **serving, scheduler=scheduler) as llm:
        poisoned(llm, monkeypatch)
        assert asked(llm) == want


def test_nor_where_weights_stream(paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with LLM(paths("olmoe"), ram="4GiB", ctx=192, concurrency=2, threads=1) as llm:
        plan, want = llm.plan, asked(llm)
    assert plan is not None
    with LLM(paths("olmoe"), plan=replace(plan, expert_slots=(2, 3, 8)), threads=1) as llm:
        poisoned(llm, monkeypatch)
        assert asked(llm) == want


# --- salts ---


def cached(llm: LLM, salt: str, prompt: list[int]) -> int:
    return llm.run([llm.request(np.array(prompt, np.int32), GREEDY, salt=salt)])[0].cached_tokens


@pytest.mark.parametrize("salts", [("", "a"), ("a", ""), ("a", "b"), ("a", "a "), ("a", "A"), ("é", "e")])
def test_a_prefix_is_found_under_its_own_salt_alone(
    paths: Callable[[str], Path], salts: tuple[str, str]
) -> None:
    prompt, (mine, yours) = PROMPTS[-1], salts
    with LLM(paths("llama"), ctx=192, concurrency=4, threads=1) as llm:
        assert cached(llm, mine, prompt) == 0
        assert cached(llm, yours, prompt) == 0
        assert cached(llm, mine, prompt) > 0


def test_requests_of_two_salts_that_run_together_share_no_block(paths: Callable[[str], Path]) -> None:
    with LLM(paths("llama"), ctx=192, concurrency=4, threads=1) as llm:
        ids = np.array(PROMPTS[-1], np.int32)
        requests = [llm.engine.add(llm.request(ids, GREEDY, salt=salt)) for salt in ("a", "b", "a")]
        while not all(len(request.sequence.output) for request in requests):
            llm.engine.step()
        first, second, third = (set(request.held.blocks) for request in requests)  # type: ignore[union-attr]
        assert not first & second
        assert not second & third
        assert len(first & third) >= len(ids) // BLOCK_TOKENS - 1, "the same salt shares"
        for request in requests:
            llm.engine.finish(request)
        assert len({request.completion.token_ids for request in requests}) == 1


def test_salts_keep_apart_what_lies_on_disk(paths: Callable[[str], Path], tmp_path: Path) -> None:
    serving = {"ctx": 192, "threads": 1, "kv_disk": "32MiB", "kv_dir": tmp_path}
    with LLM(paths("llama"), **serving) as llm:
        cached(llm, "mine", PROMPTS[-1])
    with LLM(paths("llama"), **serving) as llm:
        assert cached(llm, "yours", PROMPTS[-1]) == 0
        assert cached(llm, "", PROMPTS[-1]) == 0
        assert cached(llm, "mine", PROMPTS[-1]) > 0
