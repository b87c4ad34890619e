"""Stop strings over whole answers whose tokens are pieces of any length: what is shown, when it ends."""

from __future__ import annotations

import random

import numpy as np
import pytest

from apportion.core.errors import LimitExceeded, UsageError
from apportion.engine.params import SamplingParams
from apportion.engine.sequence import Sequence

ALPHABET = "aab\n é🚀"


class Pieces:
    """A tokenizer whose tokens are given pieces of bytes, cut anywhere."""

    bos_id, adds_bos, space_prefix = None, False, False

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.vocab_size = len(pieces) + 1
        self.eog_ids = frozenset({len(pieces)})

    def token_bytes(self, token: int) -> bytes:
        return self._pieces[token]

    def is_special(self, token: int) -> bool:
        return token in self.eog_ids


def cut(text: str, rng: random.Random) -> list[bytes]:
    """The text's bytes in pieces of 1 to 5, across characters too."""
    data, pieces = text.encode(), []
    while data:
        size = rng.randint(1, 5)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def answered(pieces: list[bytes], stop: tuple[str, ...]) -> tuple[str, str, int]:
    """What is shown of an answer in these pieces, why it ended, and how many tokens it took."""
    tokenizer = Pieces(pieces)
    params = SamplingParams(temperature=0, stop=stop)
    sequence = Sequence(np.zeros(1, np.int32), params, tokenizer, len(pieces) + 8)  # type: ignore[arg-type]
    shown = ""
    for token in range(len(pieces) + 1):
        logits = np.zeros(tokenizer.vocab_size, np.float32)
        logits[token] = 1
        shown += sequence.extend(logits).text
        if sequence.finish_reason is not None:
            break
    assert shown == sequence.text
    assert sequence.finish_reason is not None
    return shown, sequence.finish_reason, len(sequence.output)


def first_stop(pieces: list[bytes], stop: tuple[str, ...]) -> tuple[str, int] | None:
    """The text before the stop string that the earliest token completes, and the tokens up to it."""
    data = b""
    for count, piece in enumerate(pieces, 1):
        data += piece
        text = data.decode("utf-8", "ignore")
        places = [text.find(one) for one in stop if one in text]
        if places:
            return text[: min(places)], count
    return None


@pytest.mark.parametrize("seed", range(130))
def test_an_answer_ends_with_the_token_that_completes_a_stop_string(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices(ALPHABET, k=rng.randint(1, 40)))
    pieces = cut(text, rng)
    stop = tuple({"".join(rng.choices(ALPHABET, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4))})
    shown, reason, num_tokens = answered(pieces, stop)
    wanted = first_stop(pieces, stop)
    assert reason == "stop"
    assert (shown, num_tokens) == (wanted or (text, len(pieces)))


@pytest.mark.parametrize(
    ("text", "stop", "wanted"),
    [
        ("one\n\ntwo", ("\n\n",), "one"),
        ("aaab", ("aab",), "a"),
        ("ababac", ("abac",), "ab"),
        ("a🚀b", ("🚀",), "a"),
        ("👩‍🚀x", ("\u200d",), "👩"),
        ("e\u0301x", ("\u0301",), "e"),
        ("STOP", ("stop",), "STOP"),
        ("x</s></s>", ("</s>",), "x"),
        ("stop", ("stop",), ""),
        ("sto", ("stop",), "sto"),
        ("a stop here", ("here", "stop"), "a "),
        ("a.b", (".",), "a"),
    ],
)
def test_a_stop_string_is_found_however_the_tokens_cut_it(
    text: str, stop: tuple[str, ...], wanted: str
) -> None:
    for seed in range(6):
        assert answered(cut(text, random.Random(seed)), stop)[0] == wanted


def test_an_empty_stop_string_is_an_error() -> None:
    with pytest.raises(UsageError):
        SamplingParams(stop=("a", ""))


def test_more_stop_strings_than_allowed_are_an_error() -> None:
    with pytest.raises(LimitExceeded):
        answered([b"a"], tuple(f"stop{place}" for place in range(17)))
