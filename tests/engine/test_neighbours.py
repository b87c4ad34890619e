"""One bad request hurts only itself: its neighbours' numbers are bit for bit those that they have alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.errors import LimitExceeded, NotFinite
from apportion.engine.request import Request
from apportion.policies.scheduler import SCHEDULERS

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=3)
DRAWN = replace(GREEDY, temperature=1.5, seed=4, top_k=0, top_p=1.0, min_p=0.0)
RNG = np.random.default_rng(10)
PROMPT = RNG.integers(0, 256, 45).tolist()
BESIDE = RNG.integers(0, 256, 70).tolist()
LONG = RNG.integers(0, 256, 200).tolist()

Disturb = Callable[[LLM], list[Request]]


def request(
    llm: LLM, prompt: list[int] = BESIDE, params: SamplingParams = GREEDY, **terms: object
) -> Request:
    return llm.request(np.array(prompt, np.int32), params, **terms)


def failing(error: Exception) -> Disturb:
    def make(llm: LLM) -> list[Request]:
        bad = request(llm)

        def extend(logits: object) -> object:
            raise error

        bad.sequence.extend = extend  # type: ignore[method-assign,assignment]
        return [bad]

    return make


def asking(params: SamplingParams, prompt: list[int] = BESIDE, **terms: object) -> Disturb:
    return lambda llm: [request(llm, prompt, params, **terms)]


def branching(llm: LLM) -> list[Request]:
    first, *others = [request(llm, params=replace(DRAWN, seed=seed)) for seed in range(3)]
    first.branches = others
    return [first]


def spoiling_its_logits(llm: LLM) -> list[Request]:
    """Writes NaN over the logits that it is given."""
    bad = request(llm)
    extend = bad.sequence.extend

    def spoil(logits: np.ndarray) -> object:
        logits[:] = np.nan
        return extend(logits)

    bad.sequence.extend = spoil  # type: ignore[method-assign,assignment]
    return [bad]


KINDS: dict[str, Disturb] = {
    "no number to choose by": failing(NotFinite("no next token can be chosen")),
    "a grammar that becomes too complex": failing(LimitExceeded("the grammar is too complex")),
    "logits that it spoils": spoiling_its_logits,
    "everything forbidden": asking(replace(GREEDY, logit_bias=dict.fromkeys(range(258), -np.inf))),
    "a bias": asking(replace(GREEDY, logit_bias={5: 100.0, 6: -100.0})),
    "penalties": asking(replace(GREEDY, repetition_penalty=5.0, presence_penalty=2.0, frequency_penalty=2.0)),
    "a regular expression": asking(replace(GREEDY, regex="[a-z]{4}", ignore_eos=False)),
    "a schema": asking(replace(GREEDY, json_schema={"type": "integer"}, ignore_eos=False)),
    "a stop string": asking(replace(GREEDY, stop=["e"])),
    "random draws": asking(DRAWN),
    "a deadline that has passed": asking(GREEDY, ttl_s=1e-9),
    "a long prompt": asking(replace(GREEDY, max_tokens=2), LONG),
    "the same prompt": asking(DRAWN, PROMPT),
    "the same beginning": asking(GREEDY, PROMPT[:33] + BESIDE),
    "several answers": branching,
    "scores of its prompt": asking(replace(GREEDY, prompt_logprobs=5)),
    "an embedding": lambda llm: [llm.embedding_request(BESIDE)],
    "urgency": asking(GREEDY, priority=9, tenant="other"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("qwen3moe", tmp_path_factory.mktemp("tiny"), block_format="q8_0")


@pytest.fixture(scope="module")
def alone(path: Path) -> list[object]:
    with LLM(path, ctx=256, concurrency=4, threads=2) as llm:
        return numbers([llm.run([request(llm, PROMPT, params)])[0] for params in (GREEDY, DRAWN)])


@pytest.fixture(scope="module", params=["chunked:tokens=16", "fcfs", "layer_major", "layered"])
def llm(request: pytest.FixtureRequest, path: Path) -> Iterator[LLM]:
    with LLM(path, ctx=256, concurrency=4, threads=2, scheduler=request.param) as llm:
        yield llm


def numbers(completions: list[object]) -> list[object]:
    return [(one.token_ids, one.logprobs) for one in completions]  # type: ignore[attr-defined]


def play(llm: LLM, beside: list[Request], act: Callable[[int], None] = lambda step: None) -> list[object]:
    """The numbers of two requests that run with others; `act` is told before each step."""
    llm.drop_prefixes()
    good = [request(llm, PROMPT, params) for params in (GREEDY, DRAWN)]
    for one in (good[0], *beside, good[1]):
        llm.engine.add(one)
    steps = 0
    while not all(one.is_over for one in (*good, *beside)):
        act(steps)
        llm.engine.step()
        steps += 1
        assert steps < 2000
    assert llm.engine.num_running == llm.engine.space.promised == 0
    return numbers([one.completion for one in good])


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_of_every_kind_leave_the_numbers_as_they_are(
    llm: LLM, alone: list[object], kind: str
) -> None:
    assert play(llm, KINDS[kind](llm)) == alone


@pytest.mark.parametrize("at", range(6))
def test_a_neighbour_that_is_cancelled_at_any_step_leaves_them(
    llm: LLM, alone: list[object], at: int
) -> None:
    beside = [request(llm), request(llm, LONG)]

    def act(step: int) -> None:
        if step == at:
            for one in beside:
                llm.engine.cancel(one)

    assert play(llm, beside, act) == alone
    assert all(one.completion.finish_reason in ("cancelled", "length") for one in beside)


@pytest.mark.parametrize("at", range(1, 5))
def test_a_neighbour_that_yields_leaves_them(llm: LLM, alone: list[object], at: int) -> None:
    beside = [request(llm), request(llm, LONG)]

    def act(step: int) -> None:
        if step == at:
            for one in [one for one in beside if one.id in llm.engine._inside.running]:
                llm.engine._make_yield(one.id, "recompute" if at % 2 else "swap")

    assert play(llm, beside, act) == alone


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_all_of_them_together_under_every_order_of_work(
    path: Path, alone: list[object], scheduler: str
) -> None:
    with LLM(path, ctx=256, concurrency=16, threads=2, scheduler=scheduler) as llm:
        beside = [one for kind in KINDS.values() for one in kind(llm)]
        assert play(llm, beside) == alone
