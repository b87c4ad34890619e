from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.text.vocabularies import (
    CONTROLS,
    byte_level_metadata,
    sentencepiece_metadata,
    sentencepiece_model,
    tokenizer_json,
    write_folder,
)

from apportion.core.errors import ApportionError, BadFile, LimitExceeded, NotFound, Unsupported
from apportion.text.loading import load_tokenizer, tokenizer_from_folder, tokenizer_from_gguf
from apportion.text.sentencepiece_model import SentencePieceRules, model_bytes, read_model
from apportion.text.tokenizer import Tokenizer

TEXTS = ["hello world", " the  12é\n", "<think>ing<|im_end|>", "你好 🚀", ""]


def load(folder: Path, **files: Any) -> Tokenizer:
    return load_tokenizer(write_folder(folder, **files))


def test_a_tokenizer_json_gives_the_ids_that_gguf_gives(tmp_path: Path) -> None:
    ours, theirs = load(tmp_path, tokenizer_json=tokenizer_json()), tokenizer_from_gguf(byte_level_metadata())
    assert ours.vocab_size == theirs.vocab_size
    for text in TEXTS:
        for parse in (False, True):
            options = {"add_special": False, "parse_special": parse}
            assert ours.encode(text, **options) == theirs.encode(text, **options)
    ids = theirs.encode("".join(TEXTS), parse_special=True)
    assert ours.decode(ids) == theirs.decode(ids)


def test_the_post_processor_makes_the_frame(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, tokenizer_json=tokenizer_json())
    assert tokenizer.encode("a") == [tokenizer.bos_id, ord("a")]
    assert tokenizer.adds_bos
    value = tokenizer_json() | {"post_processor": None}
    assert load(tmp_path, tokenizer_json=value).encode("a") == [ord("a")]


def test_tokenizer_config_overrules_the_post_processor(tmp_path: Path) -> None:
    config = {"bos_token": {"content": CONTROLS[0]}, "eos_token": CONTROLS[2], "add_bos_token": False}
    tokenizer = load(tmp_path, tokenizer_json=tokenizer_json(), tokenizer_config_json=config)
    assert tokenizer.encode("a") == [ord("a")]
    config |= {"add_bos_token": True, "add_eos_token": True}
    tokenizer = load(tmp_path, tokenizer_config_json=config)
    assert tokenizer.encode("a") == [tokenizer.bos_id, ord("a"), tokenizer.eos_id]


def test_end_ids_come_from_the_generation_config_too(tmp_path: Path) -> None:
    files = {"tokenizer_json": tokenizer_json(), "tokenizer_config_json": {"eos_token": CONTROLS[2]}}
    assert 65 in load(tmp_path, **files, generation_config_json={"eos_token_id": [65, 66]}).eog_ids
    assert 66 in load(tmp_path, generation_config_json={"eos_token_id": 66}).eog_ids
    for wrong in (-1, 10**6, "x", True, [None]):
        with pytest.raises(BadFile, match="eos_token_id"):
            load(tmp_path, generation_config_json={"eos_token_id": wrong})


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path: Path) -> None:
    value = tokenizer_json()
    value["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    value["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    assert len(load(tmp_path, tokenizer_json=value).encode("a" * 40, add_special=False)) == 40


def test_a_tokenizer_model_gives_the_ids_that_gguf_gives(tmp_path: Path) -> None:
    ours, theirs = (
        load(tmp_path, tokenizer_model=sentencepiece_model()),
        tokenizer_from_gguf(sentencepiece_metadata()),
    )
    for text in TEXTS:
        assert ours.encode(text, add_special=False) == theirs.encode(text, add_special=False)
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))


def test_tokens_added_beside_a_tokenizer_model_extend_it(tmp_path: Path) -> None:
    size = len(sentencepiece_metadata()["tokenizer.ggml.tokens"])
    config = {
        "added_tokens_decoder": {str(size): {"content": "<|im_end|>", "special": True}},
        "eos_token": "<|im_end|>",
        "add_bos_token": True,
    }
    added = {"<tool>": size + 1}
    tokenizer = load(
        tmp_path, tokenizer_model=sentencepiece_model(), tokenizer_config_json=config, added_tokens_json=added
    )
    assert tokenizer.eog_ids >= {size}
    assert tokenizer.encode("<tool>", add_special=False) == [size + 1]
    assert size not in tokenizer.encode("<|im_end|>", add_special=False)
    assert tokenizer.encode("<|im_end|>", add_special=False, parse_special=True) == [size]
    assert tokenizer.encode("hello")[0] == 1


@pytest.mark.parametrize(
    "added",
    [{"x": 5}, {"x": 10**6}, {"x": -1}, {"x": "y"}, {"x": 10**12}, {"x": True}, {"x": None}],
)
def test_added_tokens_that_collide_or_leave_holes_are_a_bad_file(added: object, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="added token"):
        load(tmp_path, tokenizer_model=sentencepiece_model(), added_tokens_json=added)


def test_an_empty_folder_has_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no tokenizer"):
        tokenizer_from_folder(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"{" * 100_000,
        b'{"version": "1.0"}',
        b'{"model": {"type": "BPE"}}',
    ],
)
def test_a_broken_tokenizer_json_is_a_bad_file(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadFile):
        load(tmp_path, tokenizer_json=data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "vocab"), {}),
        (("model", "vocab", "a"), 2**40),
        (("model", "vocab", "a"), 4_294_967_295),
        (("model", "vocab", "a"), 98),
        (("model", "vocab", "a"), -1),
        (("model", "vocab", "a"), "x"),
        (("model", "merges"), ["q zz"]),
        (("model", "merges"), ["nomerge"]),
        (("model", "merges"), 7),
        (("model", "type"), "Other"),
        (("added_tokens",), [{"id": 1}]),
        (
            ("pre_tokenizer",),
            {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
        ),
        (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        (("decoder",), {"type": "Other"}),
        (("post_processor", "special_tokens"), {}),
    ],
)
def test_a_wrong_value_in_tokenizer_json_is_an_error_of_ours(
    path: tuple[str, ...], value: object, tmp_path: Path
) -> None:
    document = tokenizer_json()
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((BadFile, LimitExceeded)):
        load(tmp_path, tokenizer_json=document)


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"bos_token": 7},
        {"bos_token": "<not there>"},
        {"eos_token": {"content": 5}},
        {"add_bos_token": "yes"},
    ],
)
def test_a_wrong_tokenizer_config_is_a_bad_file(config: object, tmp_path: Path) -> None:
    with pytest.raises(BadFile):
        load(tmp_path, tokenizer_json=tokenizer_json(), tokenizer_config_json=config)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_100_megabyte_file_is_refused_without_reading_it(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(LimitExceeded, match="too large"):
        tokenizer_from_folder(tmp_path)


def test_a_unigram_tokenizer_model_is_named_as_unsupported(tmp_path: Path) -> None:
    vocabulary, _ = read_model(sentencepiece_model())
    data = model_bytes(vocabulary, SentencePieceRules(unknown=0, model_type=1))
    with pytest.raises(Unsupported, match="model type 1"):
        load(tmp_path, tokenizer_model=data)


def test_a_tokenizer_model_cut_anywhere_is_an_error_of_ours(tmp_path: Path) -> None:
    data = sentencepiece_model()
    for size in range(0, len(data), 97):
        try:
            load(tmp_path, tokenizer_model=data[:size])
        except ApportionError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b",
        b"\x0a\xff",
        b"\xff" * 11,
        b"\x0a\x02\x0a\x05",
        b"\x0a\x04\x0a\x02\xff\xfe",
        b"\x0a\x02\x10\x00",
        b"hello",
    ],
)
def test_a_broken_tokenizer_model_is_a_bad_file(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadFile):
        load(tmp_path, tokenizer_model=data)


def test_what_is_written_is_read_back() -> None:
    vocabulary, rules = read_model(sentencepiece_model())
    metadata = sentencepiece_metadata()
    assert list(vocabulary.tokens) == metadata["tokenizer.ggml.tokens"]
    assert list(vocabulary.kinds) == metadata["tokenizer.ggml.token_type"]
    assert vocabulary.scores is not None
    assert vocabulary.scores.tolist() == metadata["tokenizer.ggml.scores"]
    assert rules == SentencePieceRules(unknown=0, bos=1, eos=2, squeeze_spaces=False)


def test_numbers_of_another_json_reader_mean_the_same(tmp_path: Path) -> None:
    text = json.dumps(tokenizer_json(), ensure_ascii=False, indent=1).encode()
    assert load(tmp_path, tokenizer_json=text).encode("hello", add_special=False)
