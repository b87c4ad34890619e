from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.text.detokenizer import Detokenizer
from apportion.text.tokenizer import Tokenizer


def stream(tokenizer: Tokenizer, ids: list[int], **options: bool) -> list[str]:
    detokenizer = Detokenizer(tokenizer, **options)
    return [*(detokenizer.feed(token) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), text=st.text(max_size=30), skip=st.booleans(), continues=st.booleans())
def test_what_streams_is_exactly_what_decoding_gives(
    kind: str, seed: int, text: str, skip: bool, continues: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    rng = random.Random(seed)
    ids = tokenizer.encode(text, parse_special=True)
    ids += [rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(12))]
    rng.shuffle(ids)
    options = {"skip_special": skip, "continues": continues}
    assert "".join(stream(tokenizer, ids, **options)) == tokenizer.decode(ids, **options)


def test_a_character_is_shown_only_when_it_is_whole(byte_level: Tokenizer) -> None:
    assert stream(byte_level, list("🚀é".encode())) == ["", "", "", "🚀", "", "é", ""]


def test_byte_tokens_of_sentencepiece_join_to_characters(sentencepiece: Tokenizer) -> None:
    ids = [3 + byte for byte in "🚀".encode()]
    assert stream(sentencepiece, ids) == ["", "", "", "🚀", ""]


def test_bytes_that_no_character_comes_of_are_replaced(byte_level: Tokenizer) -> None:
    assert stream(byte_level, [0xF0, 0x9F]) == ["", "", "\ufffd"]
    assert "".join(stream(byte_level, [0xF0, 0x9F, ord("a"), 0xFF])) == "\ufffda\ufffd"


def test_only_the_very_first_space_goes(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode("hello hello", add_special=False)
    assert stream(sentencepiece, ids) == ["hello", " hello", ""]
    assert stream(sentencepiece, ids, continues=True) == [" hello", " hello", ""]


def test_a_skipped_token_before_the_text_does_not_use_up_the_space_rule(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode("hello")
    assert stream(sentencepiece, ids, skip_special=True) == ["", "hello", ""]
    assert stream(sentencepiece, ids) == ["<s>", " hello", ""]


def test_an_id_outside_the_vocabulary_is_refused(byte_level: Tokenizer) -> None:
    with pytest.raises(UsageError):
        Detokenizer(byte_level).feed(10**9)
