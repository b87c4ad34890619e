"""Guesses from the text itself, against the definition read off word by word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import NotFound, UsageError
from apportion.engine import SamplingParams
from apportion.engine.speculation.length import Costs
from apportion.engine.speculation.ways import WAYS, choose_way
from apportion.engine.speculation.ways.prompt_lookup import LookupDrafter, Lookups, looked_up


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def by_definition(tokens: list[int], most: int, least: int, longest: int) -> list[int]:
    for length in range(min(longest, len(tokens) - 1), least - 1, -1):
        for end in range(len(tokens) - 2, length - 2, -1):
            if tokens[end - length + 1 : end + 1] == tokens[len(tokens) - length :]:
                grown = list(tokens)
                for place in range(most):
                    grown.append(grown[end + 1 + place])
                return grown[len(tokens) :]
    return []


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(3, 6),
)
def test_the_guess_follows_the_longest_and_then_the_last_match(
    tokens: list[int], most: int, least: int, longest: int
) -> None:
    found = looked_up(np.array(tokens, np.int32), most, least, longest)
    assert found.tolist() == by_definition(tokens, most, least, longest)


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("the cat sat. the c", "at sa"),
        ("xab1 xab2 yab", "2 yab"),
        ("abcabcab", "cabca"),
        ("aaaa", "aaaaa"),
        ("abcdef", ""),
        ("a", ""),
        ("xa ya za", ""),
    ],
)
def test_guesses(text: str, guess: str) -> None:
    assert bytes(looked_up(ids(text), 5).tolist()).decode() == guess


def test_a_request_without_matches_guesses_nothing_and_is_never_longer_than_asked() -> None:
    drafter = Lookups().drafter()
    assert isinstance(drafter, LookupDrafter)
    text = ids("one two one two one t")
    drafter.took(0, 0, 9.0)  # reading the prompt
    assert len(drafter.propose(text, 4)) == 0  # a step without guesses is timed first
    drafter.took(0, 0, 0.02)
    assert 1 <= len(drafter.propose(text, 4)) <= 4
    assert len(drafter.propose(ids("abcdefg"), 4)) == 0


def test_looking_through_a_long_text_takes_microseconds() -> None:
    import time

    text = np.random.default_rng(0).integers(0, 1000, 32_768).astype(np.int32)
    times = []
    for _ in range(20):
        begin = time.thread_time()
        looked_up(text, 8)
        times.append(time.thread_time() - begin)
    assert min(times) < 2e-3


def test_ways_are_found_by_name_with_their_argument() -> None:
    assert {"none", "prompt_lookup"} <= set(WAYS)
    way, argument = choose_way("prompt-lookup")
    assert (way, argument) == (WAYS.get("prompt_lookup"), "")
    assert choose_way("none")[0].open("", None, 1, 1).drafter() is None
    with pytest.raises(UsageError):
        choose_way("prompt_lookup:3")
    with pytest.raises(NotFound):
        choose_way("oracle")
    assert all(WAYS.get(name).sentence for name in WAYS)


def copying(context: list[int]) -> int:
    """A model that goes on repeating what stands between the first two stars."""
    block = context[1 : context.index(ord("*"), 1) + 1]
    return block[(len(context) - 1) % len(block)]


def test_an_answer_that_repeats_takes_fewer_steps_and_is_the_same(make_llm, monkeypatch) -> None:
    # A scripted step takes microseconds, whose measure says nothing.
    monkeypatch.setattr(Costs, "ratio", lambda self, proposed: 1 + 0.05 * proposed)
    prompt, params = "*the quick brown fox* ", SamplingParams(temperature=0, max_tokens=120)
    plain, guessing = make_llm(copying), make_llm(copying, speculate="prompt_lookup")
    expected, answer = plain.generate(prompt, params), guessing.generate(prompt, params)
    assert (answer.text, answer.token_ids) == (expected.text, expected.token_ids)
    assert plain.engine.counters.steps == 120
    assert guessing.engine.counters.steps < 90
    assert guessing.engine.counters.accepted_tokens > 30


def test_sampled_answers_stay_the_same_too(make_llm) -> None:
    params = SamplingParams(temperature=20.0, top_k=0, top_p=1, min_p=0, seed=5, max_tokens=60)
    plain, guessing = make_llm(copying), make_llm(copying, speculate="prompt_lookup")
    prompts = ["*abc* ", "*abcab* ", "*x* "]
    expected = [one.token_ids for one in plain.generate(prompts, params)]
    assert [one.token_ids for one in guessing.generate(prompts, params)] == expected
