"""Forked and joined contexts over tiny models, against the reference over the same masks and positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.errors import ContextOverflow, DoesNotFit, Unsupported, UsageError
from apportion.engine import LLM, SamplingParams
from apportion.engine.context import generate_together
from apportion.engine.prompts import prompt_ids

GREEDY = SamplingParams(temperature=0, max_tokens=9, ignore_eos=True)
PROMPT = "the rain in spain stays mainly in the plain, said eliza, once more"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("tiny"), block_format="q8_0")


@pytest.fixture
def llm(path: Path) -> LLM:
    return LLM(path, threads=1, concurrency=4)


def num_free(llm: LLM) -> int:
    return llm.engine.space.available


def test_a_context_goes_on_as_one_text(llm: LLM) -> None:
    whole = llm.generate(PROMPT, SamplingParams(temperature=0, max_tokens=18, ignore_eos=True))
    with llm.context(PROMPT) as context:
        first, second = context.generate(GREEDY), context.generate(GREEDY)
    assert first.token_ids + second.token_ids == whole.token_ids


@pytest.mark.parametrize("length", [10, 32, 33, 64])
def test_branches_are_what_each_prompt_gives_alone(llm: LLM, length: int) -> None:
    before = num_free(llm)
    ids = llm.tokenizer.encode(PROMPT * 3, add_special=False)[:length]
    tails = [[5, 6, 7], [8], [9, 10]]
    with llm.context(ids) as trunk:
        branches = trunk.fork(tails)
        together = generate_together(branches, GREEDY)
        alone = [LLM.generate(llm, ids + tail, GREEDY) for tail in tails]
        assert [one.token_ids for one in together] == [one.token_ids for one in alone]
        for branch in branches:
            branch.close()
    assert num_free(llm) == before


def test_branches_hold_what_they_do_not_share(llm: LLM) -> None:
    pool = llm.engine.space.pool
    with llm.context(list(range(64))) as trunk:
        branches = trunk.fork([[3], [4], [5]])
        assert trunk.num_blocks == 2
        assert pool.num_blocks - pool.num_free - pool.num_idle == 2
        generate_together(branches, GREEDY)
        assert pool.num_blocks - pool.num_free - pool.num_idle == 2 + 3


def test_what_follows_a_join_sees_all_branches_in_no_order(llm: LLM) -> None:
    trunk_ids, tails, after = list(range(2, 42)), [[50, 51, 52], [60, 61]], [70, 71]
    with llm.context(trunk_ids) as trunk:
        branches = trunk.fork(tails)
        for branch in branches:  # computed, and nothing added
            branch._read()
        trunk.join(branches, after)
        assert trunk.num_tokens == 40 + 3 + 2
        joined = trunk.generate(GREEDY)
    swapped = joined_in_order(llm, trunk_ids, tails[::-1], after)
    assert joined.token_ids == swapped.token_ids  # neither branch comes before the other
    for tail in tails:
        assert joined.token_ids != joined_in_order(llm, trunk_ids, [tail], after).token_ids


def joined_in_order(llm: LLM, trunk_ids: list[int], tails: list[list[int]], after: list[int]):
    with llm.context(trunk_ids) as trunk:
        trunk.join(trunk.fork(tails), after)
        return trunk.generate(GREEDY)


def test_a_join_of_one_branch_is_no_join_at_all(llm: LLM) -> None:
    ids = list(range(2, 39))
    whole = llm.generate([*ids, 50, 51, 70], GREEDY)
    assert joined_in_order(llm, ids, [[50, 51]], [70]).token_ids == whole.token_ids


def test_a_joined_branch_has_ended_and_its_room_comes_back(llm: LLM) -> None:
    before = num_free(llm)
    with llm.context(PROMPT) as trunk:
        branches = trunk.fork(["one", "two"])
        trunk.join(branches, "and")
        with pytest.raises(UsageError, match="closed"):
            branches[0].generate(GREEDY)
        trunk.generate(GREEDY)
    assert num_free(llm) == before


def test_a_context_cannot_outgrow_the_models(llm: LLM) -> None:
    with llm.context(list(range(100))) as context:
        context.generate(SamplingParams(temperature=0, max_tokens=50, ignore_eos=True))
        with pytest.raises(ContextOverflow):
            context.generate(SamplingParams(max_tokens=200))
        assert context.generate(GREEDY).output_tokens == 9


def test_a_request_for_which_contexts_leave_no_room_fails_and_does_not_wait_for_ever(path: Path) -> None:
    llm = LLM(path, threads=1, ctx=96)
    with llm.context(list(range(70))) as context:
        context.fork([])
        with pytest.raises(DoesNotFit, match="no room"):
            llm.generate([1, 2], SamplingParams(max_tokens=60))
    assert llm.generate([1, 2], GREEDY).output_tokens == 9


def test_what_cannot_be_joined_is_refused(llm: LLM, tmp_path: Path) -> None:
    with llm.context(PROMPT) as trunk, llm.context(PROMPT) as other:
        with pytest.raises(UsageError, match="forked"):
            trunk.join([other], "x")
        branches = trunk.fork(["a"])
        trunk.extend("b")
        with pytest.raises(UsageError, match="forked"):
            trunk.join(branches, "x")
    windowed = LLM(tiny_gguf("gemma3", tmp_path), threads=1)
    with windowed.context(PROMPT) as trunk, pytest.raises(Unsupported, match="window"):
        trunk.join(trunk.fork(["a"]), "x")


def test_a_cancelled_answer_leaves_the_context_as_far_as_it_came(llm: LLM) -> None:
    with llm.context(PROMPT) as context:
        request = context._request(context._pending, GREEDY)
        llm.engine.add(request)
        llm.engine.step()
        llm.engine.cancel(request)
        assert context._position == len(prompt_ids(PROMPT, llm.tokenizer))
    assert np.all([one == 0 for one in [llm.engine.num_running, llm.engine.num_waiting]])
