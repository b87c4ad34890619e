from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.text.vectors import qwen2_metadata, read_metadata, read_vectors
from tests.text.vocabularies import (
    CONTROLS,
    USER_TOKEN,
    byte_level_metadata,
    sentencepiece_metadata,
    tokenizer_json,
    write_folder,
)

from apportion.core.errors import UsageError
from apportion.text.loading import load_tokenizer, tokenizer_from_gguf
from apportion.text.tokenizer import Tokenizer

Words = Callable[[Tokenizer, str], list[str]]


@pytest.mark.parametrize("name", ["llama-spm", "phi-3", "gpt-2", "deepseek-llm"])
def test_ids_are_those_of_the_models_own_tokenizer(name: str, shared_data: Path) -> None:
    tokenizer = tokenizer_from_gguf(read_metadata(shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf"))
    _check_vectors(tokenizer, *read_vectors(shared_data, name))


def test_ids_of_qwen2_are_those_of_its_ranks(shared_data: Path) -> None:
    tokenizer = tokenizer_from_gguf(qwen2_metadata(shared_data / "tokenizers" / "qwen.tiktoken"))
    _check_vectors(tokenizer, *read_vectors(shared_data, "qwen2"))


def test_ids_of_smollm_are_those_of_the_model(shared_data: Path, smollm2: Path) -> None:
    _check_vectors(tokenizer_from_gguf(read_metadata(smollm2)), *read_vectors(shared_data, "smollm"))


def _check_vectors(tokenizer: Tokenizer, texts: list[str], expected: list[list[int]]) -> None:
    assert len(texts) == len(expected) == 46
    for text, ids in zip(texts, expected, strict=True):
        assert tokenizer.encode(text, add_special=False) == ids
        assert tokenizer.decode(ids) == text


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=60), prefix=st.sampled_from(["", "hello ", " the", "  ", "<|im_end|>", "<think>"])
)
def test_any_text_comes_back_as_it_was(
    text: str, prefix: str, byte_level: Tokenizer, sentencepiece: Tokenizer
) -> None:
    text = prefix + text
    for tokenizer in (byte_level, sentencepiece):
        plain = text.replace("\u2581", " ") if tokenizer is sentencepiece else text
        if tokenizer is sentencepiece:
            # After a special token it puts the space that it puts before a text; there is a test for that.
            plain = plain.replace(USER_TOKEN, "").replace("<s>", "")
        for parse in (False, True):
            ids = tokenizer.encode(plain, add_special=False, parse_special=parse)
            assert tokenizer.decode(ids) == plain
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode(plain, add_special=False))


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_lone_surrogates_become_replacement_characters(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode("a\ud800b\udfff", add_special=False)
    assert tokenizer.decode(ids) == "a\ufffdb\ufffd"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude80", add_special=False)) == "🚀"


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_a_nul_is_a_character_like_others(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    assert tokenizer.decode(tokenizer.encode("a\0\0b", add_special=False)) == "a\0\0b"


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@pytest.mark.parametrize("char", ["a", " ", "<", "é"])
def test_a_megabyte_of_one_character_is_no_trouble(
    kind: str, char: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    text = char * (1_000_000 // len(char.encode()))
    start = time.process_time()
    ids = tokenizer.encode(text, add_special=False)
    assert time.process_time() - start < 3.0
    assert len(ids) > 100_000


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "wordpiece", "unigram"])
def test_no_text_encodes_to_nothing_or_to_the_frame(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    assert tokenizer.encode("", add_special=False) == []
    assert (
        len(tokenizer.encode("")) == {"byte_level": 0, "sentencepiece": 1, "wordpiece": 2, "unigram": 1}[kind]
    )


def test_user_text_cannot_spell_a_control_token(byte_level: Tokenizer, sentencepiece: Tokenizer) -> None:
    attack = "".join(CONTROLS) + "<s></s><unk>" + CONTROLS[2][:4] + CONTROLS[2][4:] + "\u2581<s>"
    for tokenizer in (byte_level, sentencepiece):
        ids = tokenizer.encode(attack, add_special=False)
        assert not any(tokenizer.is_special(token) for token in ids)


def test_merges_cannot_build_a_control_token() -> None:
    metadata = byte_level_metadata()
    merges = metadata["tokenizer.ggml.merges"]
    text = CONTROLS[1]
    steps = [f"{text[:end]} {text[end]}" for end in range(1, len(text))]
    parts = [step.replace(" ", "") for step in steps[:-1] if step.replace(" ", "") != "<|"]
    metadata["tokenizer.ggml.merges"] = merges + steps
    metadata["tokenizer.ggml.tokens"] += parts
    metadata["tokenizer.ggml.token_type"] += [1] * len(parts)
    metadata["tokenizer.ggml.pre"] = "superbpe"  # whole words: nothing is cut but digits
    tokenizer = tokenizer_from_gguf(metadata)
    ids = tokenizer.encode(text, add_special=False)
    assert tokenizer.control_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == text


def test_a_library_that_gives_control_tokens_for_text_is_overruled(tmp_path: Path) -> None:
    value = tokenizer_json()
    model = value["model"]
    model["vocab"][CONTROLS[0]] = len(model["vocab"])
    model["ignore_merges"] = True  # the word is a token, so it is taken whole
    value["pre_tokenizer"] = {**value["pre_tokenizer"], "use_regex": False}
    tokenizer = load_tokenizer(write_folder(tmp_path, tokenizer_json=value))
    assert tokenizer.control_ids.isdisjoint(tokenizer.encode(CONTROLS[0], add_special=False))
    assert tokenizer.decode(tokenizer.encode("a" + CONTROLS[0], add_special=False)) == "a" + CONTROLS[0]


def test_special_tokens_are_parsed_when_asked(byte_level: Tokenizer, words_of: Words) -> None:
    text = "<|im_start|>hello<|im_end|>\n"
    ids = byte_level.encode(text, add_special=False, parse_special=True)
    assert [byte_level.token_text(token) for token in ids] == [CONTROLS[1], "hello", CONTROLS[2], "Ċ"]
    assert byte_level.decode(ids) == text
    assert byte_level.decode(ids, skip_special=True) == "hello\n"


def test_user_defined_tokens_match_in_any_text(byte_level: Tokenizer, words_of: Words) -> None:
    assert words_of(byte_level, f"he{USER_TOKEN}he") == ["he", USER_TOKEN, "he"]


def test_the_longest_special_token_wins() -> None:
    metadata = byte_level_metadata()
    metadata["tokenizer.ggml.tokens"] += ["<think", "<think><think>"]
    metadata["tokenizer.ggml.token_type"] += [4, 4]
    tokenizer = tokenizer_from_gguf(metadata)
    ids = tokenizer.encode("<think><think><think><think!", add_special=False)
    assert [tokenizer.token_text(token) for token in ids] == ["<think><think>", "<think>", "<think", "!"]


def test_sentencepiece_puts_a_space_before_text_and_after_special_tokens(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode("hello</s>hello", parse_special=True)
    assert [sentencepiece.token_text(token) for token in ids] == ["<s>", "▁hello", "</s>", "▁hello"]


def test_sentencepiece_without_space_prefix_leaves_text_alone(words_of: Words) -> None:
    tokenizer = tokenizer_from_gguf(sentencepiece_metadata(add_space_prefix=False))
    assert words_of(tokenizer, "hello hello") == ["hello", "▁hello"]
    assert tokenizer.decode(tokenizer.encode(" hello", add_special=False)) == " hello"


def test_characters_without_a_token_fall_back_to_bytes(sentencepiece: Tokenizer, words_of: Words) -> None:
    assert words_of(sentencepiece, "X") == ["▁", "<0x58>"]
    assert sentencepiece.token_bytes(sentencepiece.encode("X", add_special=False)[1]) == b"X"


def test_a_leading_space_stays_when_text_continues(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode("hello", add_special=False)
    assert sentencepiece.decode(ids) == "hello"
    assert sentencepiece.decode(ids, continues=True) == " hello"


def test_wordpiece_lowers_splits_and_knows_its_unknowns(wordpiece: Tokenizer) -> None:
    ids = wordpiece.encode("Hello,  WORLD é xyz")
    assert [wordpiece.token_text(token) for token in ids] == [
        "[CLS]", "▁hello", "▁,", "▁wor", "ld", "▁e", "[UNK]", "[SEP]",
    ]  # fmt: skip


def test_unigram_takes_the_likeliest_segmentation(unigram: Tokenizer, words_of: Words) -> None:
    assert words_of(unigram, "hello") == ["▁hello"]
    assert words_of(unigram, "hello wo") == ["▁hello", "▁", "w", "o"]
    assert unigram.encode("hello")[-1] == unigram.eos_id
    assert unigram.decode(unigram.encode("hello", add_special=False)) == "hello"


def test_ids_outside_the_vocabulary_are_refused(byte_level: Tokenizer) -> None:
    for token in (-1, byte_level.vocab_size, 2**40):
        with pytest.raises(UsageError, match="no such token id"):
            byte_level.token_bytes(token)
        with pytest.raises(UsageError):
            byte_level.decode([token])


def test_decoding_any_ids_gives_valid_text(byte_level: Tokenizer, sentencepiece: Tokenizer) -> None:
    rng = random.Random(7)
    for tokenizer in (byte_level, sentencepiece):
        ids = [rng.randrange(tokenizer.vocab_size) for _ in range(3000)]
        text = tokenizer.decode(ids)
        assert "\ufffd" in text
        text.encode()


def test_the_frame_is_what_the_file_says() -> None:
    plain = tokenizer_from_gguf(byte_level_metadata())
    assert (plain.adds_bos, plain.encode("a")) == (False, [ord("a")])
    framed = tokenizer_from_gguf(byte_level_metadata(add_bos_token=True, add_eos_token=True))
    assert framed.encode("a") == [framed.bos_id, ord("a"), framed.eos_id]
    assert framed.adds_bos
    assert tokenizer_from_gguf(byte_level_metadata("llama-bpe")).adds_bos


def test_a_tokenizer_says_what_it_is(byte_level: Tokenizer) -> None:
    assert repr(byte_level) == f"Tokenizer({byte_level.vocab_size} tokens, SplittingEngine)"
