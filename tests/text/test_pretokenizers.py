from __future__ import annotations

import random
import time

import pytest
from tests.text.vocabularies import byte_level_metadata

from apportion.core.errors import Unsupported
from apportion.text import engines
from apportion.text.byte_level import to_bytes
from apportion.text.engines import word_splitter
from apportion.text.loading import tokenizer_from_gguf
from apportion.text.pretokenizers import PRE_TOKENIZERS, pre_tokenizer


def words(pre: str, text: str) -> list[str]:
    rule = pre_tokenizer(pre)
    parts = [part for part, _ in word_splitter(rule).pre_tokenize_str(text)]
    return [to_bytes(part).decode() for part in parts] if rule.bytes_as_chars else parts


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "I'll  pay 1234!", ["I", "'ll", " ", " pay", " 1234", "!"]),
        ("gpt-2", "a\n\n b", ["a", "\n\n", " b"]),
        ("llama-bpe", "I'LL pay 1234!\n\nx", ["I", "'LL", " pay", " ", "123", "4", "!\n\n", "x"]),
        ("qwen2", "x 12", ["x", " ", "1", "2"]),
        ("smollm", "a 12", ["a", " ", "1", "2"]),
        ("deepseek-llm", "a\n12 b!", ["a", "\n", "12", " b", "!"]),
        ("deepseek-coder", "ab 12", ["ab", " ", "1", "2"]),
        ("deepseek-v3", "x1234你好", ["x", "123", "4", "你好"]),
        ("falcon", "ab 12345!?", ["ab", " ", "123", "45", "!?"]),
        ("gpt-4o", "HelloWorld's", ["Hello", "World's"]),
        ("tekken", "HelloWorld 12", ["Hello", "World", " ", "1", "2"]),
        ("kimi-k2", "你好abc 1234", ["你好", "abc", " ", "123", "4"]),
        ("superbpe", "a 1234567", ["a ", "1", "234", "567"]),
        ("afmoe", "12345", ["12", "345"]),
        ("tiny_aya", "1234567 1234a", ["1", "234", "567", " ", "123", "4", "a"]),
        ("bloom", "a, b", ["a", ",", " b"]),
        ("viking", "a 12", ["a", " ", "1", "2"]),
        ("gemma4", "a b\n\nc", ["a b", "\n\n", "c"]),
        ("ufakzeka", "Ali'nin", ["Ali", "'nin"]),
        ("jais-2", "a" + " " * 7 + "b", ["a", "    ", "  ", " b"]),
        ("exaone-moe", "a b c", ["a b c"]),
        ("youtu", "ab가나12", ["ab", "가나", "1", "2"]),
        ("laguna", "a\nb", ["a", "\n", "b"]),
        ("minicpm5", "12345", ["123", "45"]),
        ("bailingmoe", "a\n\nb", ["a", "\n\n", "b"]),
        ("chameleon", "a  b1", ["a", "  ", "b", "1"]),
        ("default", "a=b 1234", ["a", "=", "b", " ", "123", "4"]),
    ],
)
def test_each_family_cuts_words_its_own_way(pre: str, text: str, expected: list[str]) -> None:
    assert words(pre, text) == expected


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_no_rule_loses_text(pre: str) -> None:
    text = "Hello, I'LL pay ½ 1234567 €!\r\n\n\t  你好 한국 \u3000é́ <sentinel:1>IMGIMGABZ _x\x85🚀"
    assert "".join(words(pre, text)) == text


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Unsupported) as caught:
        pre_tokenizer("sphinx-9")
    assert "sphinx-9" in str(caught.value)
    assert "llama-bpe" in caught.value.hint


@pytest.mark.parametrize("pre", ["afmoe", "superbpe", "tiny_aya", "llama-bpe", "exaone-moe", "bailingmoe"])
@pytest.mark.parametrize("text", ["1" * 100_000 + "a", " " * 100_000 + "a", "a" * 100_000])
def test_long_runs_take_linear_time(pre: str, text: str) -> None:
    splitter = word_splitter(pre_tokenizer(pre))
    start = time.process_time()
    splitter.pre_tokenize_str(text)
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize(
    "pre", sorted(name for name in PRE_TOKENIZERS if not PRE_TOKENIZERS[name].spans_spaces)
)
def test_cutting_a_long_text_cuts_no_word(pre: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(pre)
    parts = [
        "ab",
        "Cd",
        " ",
        " ",
        " ",
        "  ",
        "\n",
        "12",
        "x1",
        "'s",
        "don't",
        "!",
        "é",
        "你",
        "(",
        "\r\n",
        "\u3000",
    ]
    text = "".join(rng.choice(parts) for _ in range(6000))
    splitter = word_splitter(pre_tokenizer(pre))
    monkeypatch.setattr(engines, "_LONG_TEXT", 200)
    pieces = list(engines._pieces(text))
    assert len(pieces) > 20
    assert "".join(pieces) == text
    whole = [word for word, _ in splitter.pre_tokenize_str(text)]
    assert [word for piece in pieces for word, _ in splitter.pre_tokenize_str(piece)] == whole


def test_a_long_text_has_the_ids_of_its_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "hello the world 12 in\n" * 400
    for pre in ("gpt-2", "superbpe"):
        tokenizer = tokenizer_from_gguf(byte_level_metadata(pre))
        expected = tokenizer.encode(text)
        monkeypatch.setattr(engines, "_LONG_TEXT", 300)
        assert tokenizer.encode(text) == expected
        monkeypatch.undo()
