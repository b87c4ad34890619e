"""Greedy requests ask for the best token alone, where that is enough, and answer as by all logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.conftest import ByteTokenizer
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.errors import NotFinite
from apportion.engine.sampler import Sampler
from apportion.engine.sequence import Sequence
from apportion.kernels.ops import Best, BestOf

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
PROMPTS = [np.random.default_rng(seed).integers(0, 256, 20 + 15 * seed).tolist() for seed in range(3)]
NEEDS_LOGITS: dict[str, dict[str, Any]] = {
    "sampled": {"temperature": 0.7},
    "repetition": {"repetition_penalty": 1.1},
    "presence": {"presence_penalty": 0.5},
    "frequency": {"frequency_penalty": 0.5},
    "bias": {"logit_bias": {7: 2.0}},
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    path: Path = tiny_gguf("llama", tmp_path_factory.mktemp("model"), block_format="q8_0")
    with LLM(path, ctx=128, concurrency=4) as llm:
        yield llm


@pytest.fixture
def asked(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each search for the best was for."""
    rows: list[int] = []
    find = llm.model._best

    def best(*args: Any, **options: Any) -> Best:
        found = find(*args, **options)
        rows.append(len(found.ids))
        return found

    monkeypatch.setattr(llm.model, "_best", best)
    return rows


def test_greedy_answers_are_those_of_all_logits(llm: LLM, asked: list[int]) -> None:
    for prompt in PROMPTS:
        with_logits = llm.generate(prompt, replace(GREEDY, logprobs=1))
        assert asked == []
        assert llm.generate(prompt, GREEDY).token_ids == with_logits.token_ids
        assert asked == [1] * GREEDY.max_tokens
        asked.clear()


def test_a_batch_asks_for_all_of_its_rows_at_once(llm: LLM, asked: list[int]) -> None:
    alone = [llm.generate(prompt, GREEDY).token_ids for prompt in PROMPTS]
    asked.clear()
    assert [one.token_ids for one in llm.generate(PROMPTS, GREEDY)] == alone
    assert max(asked) == len(PROMPTS)


def test_greedy_and_sampled_requests_run_side_by_side(llm: LLM, asked: list[int]) -> None:
    hot = SamplingParams(max_tokens=12, temperature=0.8, seed=3, ignore_eos=True)
    expected = [llm.generate(PROMPTS[0], GREEDY).token_ids, llm.generate(PROMPTS[1], hot).token_ids]
    asked.clear()
    requests = [
        llm.request(np.array(PROMPTS[0], np.int32), GREEDY),
        llm.request(np.array(PROMPTS[1], np.int32), hot),
    ]
    assert [one.token_ids for one in llm.run(requests)] == expected
    # Where all logits of the other are computed in any case, there is nothing to ask for.
    assert asked == ([1] * 12 if llm.model.finds_best else [])


def test_samples_of_a_greedy_request_are_its_answer(llm: LLM) -> None:
    answer = llm.generate(PROMPTS[0], GREEDY).token_ids
    assert [one.token_ids for one in llm.samples(PROMPTS[0], 3, GREEDY)] == [answer] * 3


@pytest.mark.parametrize("params", NEEDS_LOGITS.values(), ids=NEEDS_LOGITS)
def test_where_more_than_the_largest_logit_decides_all_are_asked_for(params: dict[str, Any]) -> None:
    assert Sampler(SamplingParams(**{"temperature": 0.0, **params})).never is None


def test_what_is_never_chosen_is_told() -> None:
    assert Sampler(SamplingParams(temperature=0)).never == ()
    assert Sampler(SamplingParams(temperature=0), frozenset({9, 4})).never == (4, 9)


def test_the_tokenizers_vocabulary_is_the_limit() -> None:
    tokenizer = ByteTokenizer()

    def best_of(**params: Any) -> BestOf | None:
        done = SamplingParams(**{"temperature": 0, **params}).completed(SamplingParams())
        return Sequence(np.array([1], np.int32), done, tokenizer, 64).best_of

    assert best_of() == BestOf(tokenizer.vocab_size)
    assert best_of(ignore_eos=True) == BestOf(tokenizer.vocab_size, tuple(sorted(tokenizer.eog_ids)))
    assert best_of(logprobs=0) is None
    assert best_of(temperature=1.0) is None


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_a_best_that_is_no_number_is_an_error(logit: float) -> None:
    params = SamplingParams(temperature=0).completed(SamplingParams())
    sequence = Sequence(np.array([1], np.int32), params, ByteTokenizer(), 64)
    with pytest.raises(NotFinite):
        sequence.extend_by_best(5, logit)
