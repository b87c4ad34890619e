"""Prompts of chosen lengths."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from tests.bench.load.scripted_server import Script, ScriptedServer

from apportion.bench.load.prompts import Prompts, WordLengths, Words, fitted, lengths_of
from apportion.bench.load.server import Server, address_of
from apportion.core.errors import UsageError

TEXT = " ".join(f"w{number}" for number in range(250))


def test_the_server_says_what_words_take() -> None:
    with ScriptedServer(lambda _: Script()) as scripted:
        lengths = lengths_of(Server(address_of(scripted.url), "scripted"), Words(), 1, 256)
    assert (lengths.fixed, lengths.per_word) == (10, 2)
    assert lengths.words(256) == 123


def test_no_slope_is_taken_for_nothing() -> None:
    assert fitted((64, 192), (5, 5)) == WordLengths(0.0, 0.5)
    assert WordLengths(30, 1).words(10) == 1


@pytest.mark.parametrize("text", [None, TEXT])
def test_prompts_have_the_length_and_no_two_begin_alike(text: str | None) -> None:
    prompts = Prompts(Words(text), WordLengths(10, 2), "7")
    some = [prompts.prompt(number, 110) for number in range(60)]
    assert {len(prompt.split()) for prompt in some} == {51}  # the number is one more
    assert all(a.split()[:2] != b.split()[:2] for a, b in combinations(some, 2))


def test_a_shared_prefix_is_shared_and_the_rest_is_not() -> None:
    prompts = Prompts(Words(), WordLengths(10, 2), "7", shared=60)
    a, b = (prompts.prompt(number, 110).split() for number in (1, 2))
    assert a[:25] == b[:25]
    assert a[25:] != b[25:]
    assert len(a) == 51


def test_a_seed_repeats_prompts_and_another_does_not() -> None:
    def prompt(seed: str) -> str:
        return Prompts(Words(), WordLengths(10, 2), seed).prompt(3, 50)

    assert prompt("1") == prompt("1") != prompt("2")


def test_words_of_a_text_stay_in_order() -> None:
    words = Prompts(Words(TEXT), WordLengths(0, 1), "7").prompt(0, 30).split()[1:]
    numbers = [int(word[1:]) for word in words]
    assert all((after - before) % 250 == 1 for before, after in pairwise(numbers))


def test_a_short_text_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        Words("too short")
    assert caught.value.numbers == {"words": 2, "needed": 200}
