"""Tokenizers that several tests of this room share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.text.vocabularies import (
    byte_level_metadata,
    sentencepiece_metadata,
    unigram_metadata,
    wordpiece_metadata,
)

from apportion.text.loading import tokenizer_from_gguf
from apportion.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    return tokenizer_from_gguf(byte_level_metadata())


@pytest.fixture(scope="session")
def sentencepiece() -> Tokenizer:
    return tokenizer_from_gguf(sentencepiece_metadata())


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    return tokenizer_from_gguf(wordpiece_metadata())


@pytest.fixture(scope="session")
def unigram() -> Tokenizer:
    return tokenizer_from_gguf(unigram_metadata())


@pytest.fixture
def words_of() -> Callable[[Tokenizer, str], list[str]]:
    """The tokens of a text, as the vocabulary spells them."""
    return lambda tokenizer, text: [
        tokenizer.token_text(token) for token in tokenizer.encode(text, add_special=False)
    ]
