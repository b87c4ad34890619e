from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.text.vocabularies import (
    CONTROLS,
    byte_level_metadata,
    sentencepiece_metadata,
    unigram_metadata,
    wordpiece_metadata,
)

from apportion.core.errors import BadFile, Unsupported
from apportion.text.loading import tokenizer_from_gguf

Metadata = dict[str, Any]


@pytest.mark.parametrize("kind", ["rwkv", "plamo2", "none", "", "hybriddna"])
def test_a_kind_that_no_engine_runs_is_named(kind: str) -> None:
    with pytest.raises(Unsupported) as caught:
        tokenizer_from_gguf(byte_level_metadata(model=kind))
    assert repr(kind) in str(caught.value)


def test_an_unknown_pre_tokenizer_is_refused() -> None:
    with pytest.raises(Unsupported, match="'sphinx'"):
        tokenizer_from_gguf(byte_level_metadata("sphinx"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": None}, "no tokenizer.ggml.model"),
        ({"model": 7}, "not a text"),
        ({"pre": 7}, "not a text"),
        ({"tokens": None}, "not a list"),
        ({"tokens": [1, 2]}, "not UTF-8"),
        ({"token_type": [1, 2]}, "do not match"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"merges": "a b"}, "merges are not a list"),
        ({"merges": ["ab"]}, "not two tokens"),
        ({"merges": [7]}, "not two tokens"),
        ({"merges": ["q zz"]}, "do not fit"),
        ({"merges": ["a b"]}, "do not fit"),
        ({"bos_token_id": 10**6}, "outside the vocabulary"),
        ({"bos_token_id": -1}, "outside the vocabulary"),
        ({"eos_token_id": "2"}, "not a number"),
        ({"eos_token_id": True}, "not a number"),
        ({"eot_token_id": 2**40}, "outside the vocabulary"),
        ({"add_bos_token": "yes"}, "not true or false"),
        ({"add_eos_token": 1}, "not true or false"),
    ],
)
def test_broken_byte_level_metadata_is_a_bad_file(change: Metadata, says: str) -> None:
    metadata = byte_level_metadata()
    for key, value in change.items():
        metadata["tokenizer.ggml." + key] = value
    with pytest.raises(BadFile, match=says):
        tokenizer_from_gguf({key: value for key, value in metadata.items() if value is not None})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": None}, "no scores"),
        ({"scores": [1.0]}, "do not match"),
        ({"unknown_token_id": 5}, "unknown token is a byte token"),
        ({"add_space_prefix": 0}, "not true or false"),
        ({"precompiled_charsmap": "abc"}, "not an array of bytes"),
        ({"precompiled_charsmap": [1.5]}, "not an array of bytes"),
        ({"precompiled_charsmap": [1, 2, 3]}, "normalization table"),
    ],
)
def test_broken_sentencepiece_metadata_is_a_bad_file(change: Metadata, says: str) -> None:
    with pytest.raises(BadFile, match=says):
        tokenizer_from_gguf(sentencepiece_metadata(**change))


@pytest.mark.parametrize("spelling", ["<0x-1>", "<0xZZ>", "<0xab>", "<0x+1>", "<0x 1>", "<0x\uff11\uff11>"])
def test_a_misspelt_byte_token_is_a_bad_file(spelling: str) -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.tokens"][10] = spelling
    with pytest.raises(BadFile, match="byte token"):
        tokenizer_from_gguf(metadata)


def test_a_missing_byte_token_is_a_bad_file() -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.tokens"][10] = "zz"
    metadata["tokenizer.ggml.token_type"][10] = 1
    with pytest.raises(BadFile, match="byte tokens are missing"):
        tokenizer_from_gguf(metadata)


def test_a_sentencepiece_file_without_kinds_still_has_bytes_and_ends() -> None:
    tokenizer = tokenizer_from_gguf(sentencepiece_metadata(token_type=None))
    assert tokenizer.token_bytes(3 + ord("X")) == b"X"
    assert tokenizer.is_special(1)
    assert tokenizer.decode(tokenizer.encode("X hello 🚀", add_special=False)) == "X hello 🚀"


def test_a_vocabulary_without_byte_tokens_says_unknown() -> None:
    metadata = sentencepiece_metadata()
    for key in ("tokens", "token_type", "scores"):
        values = metadata["tokenizer.ggml." + key]
        metadata["tokenizer.ggml." + key] = values[:3] + values[259:]
    tokenizer = tokenizer_from_gguf(metadata)
    assert 0 in tokenizer.encode("🚀", add_special=False)


@pytest.mark.parametrize("convert", [list, np.array, tuple])
def test_arrays_may_be_lists_or_numpy_arrays(convert: Any) -> None:
    metadata = sentencepiece_metadata()
    expected = tokenizer_from_gguf(metadata).encode("hello")
    for key in ("token_type", "scores"):
        metadata["tokenizer.ggml." + key] = convert(metadata["tokenizer.ggml." + key])
    assert tokenizer_from_gguf(metadata).encode("hello") == expected


def test_a_normalization_table_is_applied() -> None:
    # One entry: "X" becomes "y". A double-array trie of 32-bit units, then the replacements.
    units = [0] * 512
    units[0] = 1 << 10  # the root's children begin at 0 ^ 1
    units[1 ^ ord("X")] = ord("X") | (1 << 8) | (256 << 10)  # has a leaf, whose value is at 89 ^ 256
    units[1 ^ ord("X") ^ 256] = 1 << 31
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    table = len(trie).to_bytes(4, "little") + trie + b"y\0"
    tokenizer = tokenizer_from_gguf(sentencepiece_metadata(precompiled_charsmap=list(table)))
    assert tokenizer.decode(tokenizer.encode("aXb", add_special=False)) == "ayb"
    signed = np.frombuffer(table, np.int8)
    again = tokenizer_from_gguf(sentencepiece_metadata(precompiled_charsmap=signed))
    assert again.encode("aXb") == tokenizer.encode("aXb")


def test_extra_spaces_go_when_the_file_says_so() -> None:
    for build in (sentencepiece_metadata, unigram_metadata):
        tokenizer = tokenizer_from_gguf(build(remove_extra_whitespaces=True))
        assert tokenizer.decode(tokenizer.encode("  hello   hello ", add_special=False)) == "hello hello"


def test_end_tokens_are_found_by_id_and_by_text() -> None:
    tokenizer = tokenizer_from_gguf(byte_level_metadata(eot_token_id=65))
    tokens = [tokenizer.token_text(token) for token in sorted(tokenizer.eog_ids)]
    assert tokens == ["A", "<|endoftext|>", "<|im_end|>"]


def test_an_end_token_is_control_whatever_the_file_calls_it() -> None:
    metadata = byte_level_metadata()
    metadata["tokenizer.ggml.token_type"] = [1] * len(metadata["tokenizer.ggml.tokens"])
    tokenizer = tokenizer_from_gguf(metadata)
    end = metadata["tokenizer.ggml.tokens"].index(CONTROLS[2])
    assert tokenizer.is_special(end)
    assert end in tokenizer.eog_ids
    assert end not in tokenizer.encode(CONTROLS[2], add_special=False)


def _with_tokens(*texts: str, kind: int = 3) -> set[str]:
    metadata = byte_level_metadata()
    texts = tuple(text for text in texts if text not in metadata["tokenizer.ggml.tokens"])
    metadata["tokenizer.ggml.tokens"] += list(texts)
    metadata["tokenizer.ggml.token_type"] += [kind] * len(texts)
    tokenizer = tokenizer_from_gguf(metadata)
    return {tokenizer.token_text(token) for token in tokenizer.eog_ids} - set(CONTROLS)


def test_in_the_harmony_format_end_of_message_is_not_the_end() -> None:
    assert _with_tokens("<|end|>") == {"<|end|>"}
    assert _with_tokens("<|end|>", "<|return|>", "<|call|>") == {"<|return|>", "<|call|>"}


def test_words_of_markup_end_nothing_unless_they_are_control_tokens() -> None:
    assert _with_tokens("</s>", kind=3) == {"</s>"}
    assert _with_tokens("</s>", kind=4) == set()


def test_phi3_swallows_white_space_after_its_special_tokens() -> None:
    metadata = sentencepiece_metadata()
    metadata["tokenizer.ggml.tokens"] += ["<|user|>"]
    metadata["tokenizer.ggml.token_type"] += [3]
    metadata["tokenizer.ggml.scores"] += [0.0]
    user = len(metadata["tokenizer.ggml.tokens"]) - 1
    text = "<|user|>\n hello"
    plain = tokenizer_from_gguf(metadata).encode(text, add_special=False, parse_special=True)
    phi3 = tokenizer_from_gguf(metadata | {"general.name": "Phi3"})
    ids = phi3.encode(text, add_special=False, parse_special=True)
    assert [phi3.token_text(token) for token in ids] == ["<|user|>", "▁hello"]
    assert plain[0] == user
    assert len(plain) > 2


def test_wordpiece_needs_an_unknown_token() -> None:
    with pytest.raises(BadFile, match="unknown token"):
        tokenizer_from_gguf(wordpiece_metadata(unknown_token_id=None))
