from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apportion.core.errors import BadFile, LimitExceeded
from apportion.text.vocabulary import TokenKind, byte_value, checked_vocabulary

TOKENS = ["<unk>", "a", "b"]
KINDS = [2, 1, 1]
SCORES = [0.0, -1.0, -2.0]


def test_a_sound_vocabulary_keeps_tokens_kinds_and_scores() -> None:
    vocabulary = checked_vocabulary(TOKENS, np.array(KINDS, np.int32), SCORES)
    assert list(vocabulary.tokens) == TOKENS
    assert vocabulary.ids_of(TokenKind.UNKNOWN) == [0]
    assert vocabulary.ids_of(TokenKind.NORMAL, TokenKind.UNKNOWN) == [0, 1, 2]
    assert vocabulary.scores is not None
    assert vocabulary.scores.tolist() == SCORES


def test_kinds_that_the_format_does_not_define_count_as_normal() -> None:
    assert checked_vocabulary(TOKENS, [0, 99, -7], None).kinds == bytes([1, 1, 1])


def test_a_vocabulary_without_kinds_is_all_normal() -> None:
    assert checked_vocabulary(TOKENS, None, None).kinds == bytes([1, 1, 1])


@pytest.mark.parametrize(
    ("tokens", "kinds", "scores", "says"),
    [
        (None, None, None, "not a list"),
        ("abc", None, None, "not a list"),
        ([], None, None, "no tokens"),
        (["a", 1, "b"], None, None, "not UTF-8 text"),
        (["a", b"b", "c"], None, None, "not UTF-8 text"),
        (["a", "\ud800", "c"], None, None, "not UTF-8 text"),
        (["a", "b", "a"], None, None, "twice"),
        (TOKENS, [1, 1], None, "do not match"),
        (TOKENS, [1, 1, 1, 1], None, "do not match"),
        (TOKENS, "abc", None, "not a list"),
        (TOKENS, 7, None, "not a list"),
        (TOKENS, [1.5, 1.0, 1.0], None, "not integers"),
        (TOKENS, ["1", "1", "1"], None, "not numbers"),
        (TOKENS, [[1], [1], [1]], None, "not numbers"),
        (TOKENS, [[1], [1, 2], [1]], None, "not numbers"),
        (TOKENS, None, [0.0, 1.0], "do not match"),
        (TOKENS, None, [0.0, float("nan"), 1.0], "not a number"),
        (TOKENS, None, ["x", "y", "z"], "not numbers"),
        (["<0x-1>", "a", "b"], [6, 1, 1], None, "byte token"),
        (["<0xZZ>", "a", "b"], [6, 1, 1], None, "byte token"),
        (["<0xab>", "a", "b"], [6, 1, 1], None, "byte token"),
        (["<0x100>", "a", "b"], [6, 1, 1], None, "byte token"),
        (["x", "a", "b"], [6, 1, 1], None, "byte token"),
    ],
)
def test_a_broken_vocabulary_is_a_bad_file(tokens: Any, kinds: Any, scores: Any, says: str) -> None:
    with pytest.raises(BadFile, match=says):
        checked_vocabulary(tokens, kinds, scores)


def test_a_duplicate_is_reported_with_both_places() -> None:
    with pytest.raises(BadFile) as caught:
        checked_vocabulary(["x", "a", "b", "a"], None, None)
    assert caught.value.numbers == {"token": "'a'", "first": 1, "second": 3}


def test_100_megabytes_of_text_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="too long"):
        checked_vocabulary(["a" * 100_000, "b"], None, None)
    part = "x" * 60_000
    with pytest.raises(LimitExceeded, match="too long"):
        checked_vocabulary([part] * 2000, None, None)


def test_every_byte_has_one_spelling() -> None:
    assert [byte_value(f"<0x{byte:02X}>") for byte in range(256)] == list(range(256))
