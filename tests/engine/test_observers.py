"""Log-probabilities of prompts, and embeddings, against what the model's own logits and states say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.core.claim import Kind, Tier
from apportion.core.errors import ContextOverflow, DoesNotFit, NotFinite, UsageError
from apportion.core.units import MiB
from apportion.engine import observers
from apportion.engine.observers import Embedding, PromptLogprobs
from apportion.engine.prompts import prompt_ids
from apportion.engine.request import Request

FAMILIES = ["llama", "gemma2", "qwen3moe", "deepseek2"]
RNG = np.random.default_rng(6)
PROMPTS = [RNG.integers(0, 256, count).tolist() for count in (70, 1, 33, 2)]
SCORED = SamplingParams(temperature=0, max_tokens=0, prompt_logprobs=0)
GREEDY = SamplingParams(temperature=0, max_tokens=9, ignore_eos=True)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: tiny_gguf(name, folder, block_format="q8_0") for name in [*FAMILIES, "olmoe"]}


@pytest.fixture(scope="module", params=FAMILIES)
def llm(request: pytest.FixtureRequest, paths: dict[str, Path]) -> Iterator[LLM]:
    with LLM(paths[request.param], threads=2, ctx=128, concurrency=4) as llm:
        yield llm


@pytest.fixture(scope="module")
def llama(paths: dict[str, Path]) -> Iterator[LLM]:
    with LLM(paths["llama"], threads=2, ctx=128, concurrency=4) as llm:
        yield llm


def chosen(completion) -> list[float | None]:
    return [one and one.chosen.logprob for one in completion.prompt_logprobs]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return (
        wide
        - np.log(np.exp(wide - wide.max(1, keepdims=True)).sum(1, keepdims=True))
        - wide.max(1, keepdims=True)
    )


def expected(llm: LLM, prompt: list[int]) -> np.ndarray:
    """[n, V], of the token behind each of the prompt's."""
    logits = llm.model.forward(prompt, llm.model.new_cache(128), logits="all")
    return log_softmax(logits[:, : llm.tokenizer.vocab_size])


def states(llm: LLM, prompt: list[int]) -> np.ndarray:
    """[n, H] after the last norm, by NumPy."""
    model, cache = llm.model, llm.model.new_cache(128)
    x = model.run_layers(model.embed(np.array(prompt, np.int32)), cache)
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + model.config.norm_eps) * model.weights.output_norm)


# --- log-probabilities of prompts ---


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_each_token_of_the_prompt_has_the_log_probability_that_the_logits_before_it_give(
    llm: LLM, prompt: list[int]
) -> None:
    done = llm.generate(prompt, SCORED)
    assert done.prompt_logprobs is not None
    assert done.prompt_logprobs[0] is None
    assert [one.chosen.token_id for one in done.prompt_logprobs[1:] if one] == prompt[1:]
    want = expected(llm, prompt)[np.arange(len(prompt) - 1), prompt[1:]]
    np.testing.assert_allclose(chosen(done)[1:], want, atol=1e-5)


def test_alternatives_are_the_likeliest_tokens_best_first(llm: LLM) -> None:
    done = llm.generate(PROMPTS[0], replace(SCORED, prompt_logprobs=4))
    want = expected(llm, PROMPTS[0])
    assert done.prompt_logprobs is not None
    for entry, row in zip(done.prompt_logprobs[1:], want, strict=False):
        assert entry is not None
        order = np.argsort(-row, kind="stable")[:4]
        assert [one.token_id for one in entry.top] == order.tolist()
        np.testing.assert_allclose([one.logprob for one in entry.top], row[order], atol=1e-5)


def test_nothing_is_answered_where_only_the_prompt_is_wanted(llama: LLM) -> None:
    done = llama.generate(PROMPTS[0], SCORED)
    assert (done.token_ids, done.text, done.finish_reason) == ((), "", "length")
    assert llama.engine.num_running == 0
    assert llama.engine.space.promised == 0


def test_the_answer_is_the_same_whether_the_prompt_is_scored_or_not(llm: LLM) -> None:
    plain = llm.generate(PROMPTS[2], GREEDY)
    scored = llm.generate(PROMPTS[2], replace(GREEDY, prompt_logprobs=2))
    assert scored.token_ids == plain.token_ids
    assert plain.prompt_logprobs is None


def test_a_prompt_that_is_kept_is_computed_again_for_its_scores(llama: LLM) -> None:
    first = llama.generate(PROMPTS[0], SCORED)
    llama.generate(PROMPTS[0], GREEDY)
    again = llama.generate(PROMPTS[0], SCORED)
    assert again.cached_tokens == 0
    assert again.prompt_logprobs == first.prompt_logprobs
    assert llama.generate(PROMPTS[0], GREEDY).cached_tokens > 0, "what it computed serves others"


@pytest.mark.parametrize("rows", [1, 7, 16])
def test_scores_do_not_depend_on_how_many_rows_are_made_at_a_time(
    llama: LLM, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    whole = llama.generate(PROMPTS[0], replace(SCORED, prompt_logprobs=2))
    monkeypatch.setattr(observers, "LOGITS_NBYTES", 4 * llama.tokenizer.vocab_size * rows)
    monkeypatch.setattr(llama.engine, "_observed_tokens", 16)
    steps = llama.engine.counters.steps
    assert llama.generate(PROMPTS[0], replace(SCORED, prompt_logprobs=2)).prompt_logprobs == (
        whole.prompt_logprobs
    )
    assert llama.engine.counters.steps - steps == -(-70 // 16)


@pytest.mark.parametrize("scheduler", ["fcfs", "chunked", "layer_major", "layered", "splitfuse"])
def test_neighbours_are_bit_equal_under_every_order_of_work(paths: dict[str, Path], scheduler: str) -> None:
    with LLM(paths["qwen3moe"], threads=2, ctx=128, concurrency=6, scheduler=scheduler) as llm:
        alone = [llm.generate(prompt, replace(GREEDY, logprobs=3)) for prompt in PROMPTS]
        scores = [llm.generate(prompt, replace(SCORED, prompt_logprobs=1)) for prompt in PROMPTS]
        asks = [replace(GREEDY, logprobs=3), replace(SCORED, prompt_logprobs=1)]
        requests = [llm.request(np.array(prompt, np.int32), ask) for prompt in PROMPTS for ask in asks]
        together = llm.run(requests)
    assert [one.logprobs for one in together[::2]] == [one.logprobs for one in alone]
    assert [one.prompt_logprobs for one in together[1::2]] == [one.prompt_logprobs for one in scores]


def test_several_answers_to_a_prompt_share_its_scores(llama: LLM) -> None:
    done = llama.samples(PROMPTS[2], 3, replace(GREEDY, temperature=2.0, prompt_logprobs=0))
    assert len({one.prompt_logprobs for one in done}) == 1
    assert chosen(done[0]) == chosen(llama.generate(PROMPTS[2], SCORED))


def test_a_request_that_yielded_is_scored_to_the_end(llama: LLM) -> None:
    want = llama.generate(PROMPTS[0], SCORED).prompt_logprobs
    request = llama.engine.add(llama.request(np.array(PROMPTS[0], np.int32), SCORED))
    observed = llama.engine._observed_tokens
    llama.engine._observed_tokens = 32
    try:
        llama.engine.step()
        llama.engine._make_yield(request.id, "swap")
        llama.engine.finish(request)
    finally:
        llama.engine._observed_tokens = observed
    assert request.completion.prompt_logprobs == want


def test_what_continues_a_context_is_scored_from_its_second_token_on(llama: LLM) -> None:
    begun, rest = PROMPTS[0][:40], PROMPTS[0][40:]
    whole = chosen(llama.generate(PROMPTS[0], SCORED))
    with llama.context(begun) as context:
        branch = context.fork([rest])[0]
        found = chosen(branch.generate(replace(GREEDY, prompt_logprobs=0)))
        branch.close()
    assert found[0] is None
    assert found[1:] == whole[41:]


def test_guesses_do_not_change_scores(paths: dict[str, Path], llama: LLM) -> None:
    with LLM(paths["llama"], ctx=128, speculate="prompt_lookup") as guessing:
        asked = replace(GREEDY, prompt_logprobs=1)
        assert (
            guessing.generate([5, 6, 7] * 8, asked).prompt_logprobs
            == llama.generate([5, 6, 7] * 8, asked).prompt_logprobs
        )


def test_experts_that_stream_give_the_same_scores(paths: dict[str, Path]) -> None:
    with LLM(paths["olmoe"], ram="4GiB", ctx=128) as whole:
        plan, want = whole.plan, whole.generate(PROMPTS[0], SCORED).prompt_logprobs
    assert plan is not None
    with LLM(
        paths["olmoe"], plan=replace(plan, expert_slots=(2, 3, 4), streamed_layers=(1,), stream_buffers=2)
    ) as llm:
        assert llm.generate(PROMPTS[0], SCORED).prompt_logprobs == want


def test_a_state_that_is_no_number_fails_this_request_alone(
    llama: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = llama.generate(PROMPTS[2], GREEDY)
    bad = llama.request(np.array(PROMPTS[0], np.int32), SCORED)
    good = llama.request(np.array(PROMPTS[2], np.int32), GREEDY)
    assert isinstance(bad.observer, PromptLogprobs)
    monkeypatch.setattr(bad.observer, "_head", lambda x: np.full((len(x), 400), np.nan, np.float32))
    for request in (bad, good):
        llama.engine.add(request)
    llama.engine.finish(good)
    llama.engine.finish(bad)
    assert isinstance(bad.error, NotFinite)
    assert good.completion.token_ids == plain.token_ids


def test_max_tokens_0_needs_something_else_that_is_wanted() -> None:
    with pytest.raises(UsageError, match="max_tokens"):
        SamplingParams(max_tokens=0)
    with pytest.raises(UsageError, match="prompt_logprobs"):
        SamplingParams(prompt_logprobs=21)


# --- embeddings ---


def test_the_mean_and_the_last_state_are_those_after_the_last_norm(llm: LLM) -> None:
    means, lasts = llm.embed(PROMPTS, normalize=False), llm.embed(PROMPTS, "last", normalize=False)
    assert means.dtype == np.float32
    assert means.shape == (len(PROMPTS), llm.model.config.hidden_size)
    for prompt, mean, last in zip(PROMPTS, means, lasts, strict=True):
        want = states(llm, prompt)
        np.testing.assert_allclose(mean, want.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last, want[-1], rtol=1e-4, atol=1e-5)


def test_vectors_are_of_length_1_unless_told(llama: LLM) -> None:
    raw, unit = llama.embed(PROMPTS, normalize=False), llama.embed(PROMPTS)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5)


def test_a_text_is_embedded_like_its_tokens(llama: LLM) -> None:
    text = "the rain in spain"
    ids = prompt_ids(text, llama.tokenizer).tolist()
    np.testing.assert_array_equal(llama.embed(text), llama.embed(ids))
    np.testing.assert_array_equal(llama.embed(text), llama.embed([text, text])[1:])


def test_what_is_kept_spares_the_last_state_its_prompt_and_changes_nothing(llama: LLM) -> None:
    llama.generate(PROMPTS[0], GREEDY)
    fresh, before = llama.embed(PROMPTS[0]), llama.engine.counters.reused_tokens
    np.testing.assert_array_equal(llama.embed(PROMPTS[0]), fresh)
    assert llama.engine.counters.reused_tokens == before, "of a mean every token counts"
    last = llama.embed(PROMPTS[0], "last")
    assert llama.engine.counters.reused_tokens > before
    np.testing.assert_allclose(
        last[0],
        states(llama, PROMPTS[0])[-1] / np.linalg.norm(states(llama, PROMPTS[0])[-1]),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("at_once", [1, 13, 512])
def test_a_mean_does_not_depend_on_how_the_text_came(llama: LLM, at_once: int) -> None:
    want = llama.embed(PROMPTS[0])
    observed, llama.engine._observed_tokens = llama.engine._observed_tokens, at_once
    try:
        np.testing.assert_array_equal(llama.embed(PROMPTS[0]), want)
    finally:
        llama.engine._observed_tokens = observed


def test_a_state_that_comes_twice_counts_once() -> None:
    observer = Embedding(3, "mean", lambda x: x)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    for first, part in ((0, rows[:2]), (0, rows[:1]), (1, rows[1:])):
        observer.take_in(first, part)
    np.testing.assert_array_equal(observer.vector(normalize=False), rows.mean(axis=0))


def test_texts_are_embedded_beside_requests_that_run(llama: LLM) -> None:
    want, vectors = llama.generate(PROMPTS[0], GREEDY), llama.embed(PROMPTS)
    running = llama.engine.add(llama.request(np.array(PROMPTS[0], np.int32), GREEDY))
    llama.engine.step()
    np.testing.assert_array_equal(llama.embed(PROMPTS), vectors)
    llama.engine.finish(running)
    assert running.completion.token_ids == want.token_ids


def test_texts_that_cannot_be_embedded_are_refused(llama: LLM) -> None:
    with pytest.raises(UsageError, match="empty"):
        llama.embed([[]])
    with pytest.raises(ContextOverflow):
        llama.embed([[1] * 129])
    with pytest.raises(UsageError, match="pooling"):
        llama.embed("a", pooling="max")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="vocabulary"):
        llama.embed([[99999]])


# --- the budget ---


def test_what_it_takes_is_leased_once(paths: dict[str, Path]) -> None:
    with LLM(paths["llama"], ram="4GiB", ctx=128) as llm:
        assert llm.ledger is not None
        before = llm.ledger.account().tiers[Tier.RAM].by_kind[Kind.WORKSPACE]
        llm.embed(PROMPTS)
        llm.generate(PROMPTS[0], SCORED)
        after = llm.ledger.account().tiers[Tier.RAM].by_kind[Kind.WORKSPACE]
    assert after - before == observers.OBSERVING_NBYTES


def test_a_budget_without_room_for_it_refuses_it_and_goes_on(paths: dict[str, Path]) -> None:
    with LLM(paths["llama"], ram="4GiB", ctx=128) as llm:
        assert llm.ledger is not None
        llm.ledger.set_limit(Tier.RAM, llm.ledger.account().tiers[Tier.RAM].used + MiB)
        with pytest.raises(DoesNotFit, match="observing"):
            llm.embed("a")
        llm.generate(PROMPTS[0], GREEDY)


def test_room_that_was_set_aside_needs_no_more(paths: dict[str, Path]) -> None:
    with LLM(paths["llama"], ram="4GiB", ctx=128, observing=True) as llm:
        assert llm.ledger is not None
        llm.ledger.set_limit(Tier.RAM, llm.ledger.account().tiers[Tier.RAM].used)
        assert llm.embed("a").shape == (1, llm.model.config.hidden_size)


def test_a_request_that_is_cancelled_tells_what_it_knows(llama: LLM) -> None:
    observed, llama.engine._observed_tokens = llama.engine._observed_tokens, 32
    try:
        request: Request = llama.engine.add(llama.request(np.array(PROMPTS[0], np.int32), SCORED))
        llama.engine.step()
        llama.engine.cancel(request)
    finally:
        llama.engine._observed_tokens = observed
    found = request.completion.prompt_logprobs
    assert found is not None
    assert [one is None for one in found] == [True] + [False] * 32 + [True] * 37
