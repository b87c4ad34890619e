"""Compiled grammars: kept within their bound, shared by answers and threads, over real vocabularies."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.engine.conftest import ByteTokenizer
from tests.engine.grammar.conftest import satisfies

from apportion.core.errors import UsageError
from apportion.engine import SamplingParams
from apportion.engine.grammar import Grammars, Spec, spec_of
from apportion.engine.grammar.vocabulary import Words
from apportion.formats import open_checkpoint
from apportion.text.loading import tokenizer_from_gguf

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_a_grammar_is_compiled_once(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec("regex", "once")
    grammars.matcher(spec)
    monkeypatch.setattr(grammars._check, "grammar", lambda spec: pytest.fail("compiled again"))
    assert not grammars.matcher(spec).is_over


def test_what_is_kept_stays_within_its_bound_and_the_last_used_stay() -> None:
    made = Grammars(ByteTokenizer(), cache_nbytes=300_000)
    specs = [Spec("regex", f"number{i}") for i in range(6)]
    for spec in specs:
        made.matcher(spec)
        made.matcher(specs[0])
        assert made.kept_nbytes <= 300_000
    assert list(made._kept) == [specs[4], specs[5], specs[0]]
    made.close()
    assert made.kept_nbytes == 0


def test_a_grammar_larger_than_the_bound_is_used_and_not_kept() -> None:
    made = Grammars(ByteTokenizer(), cache_nbytes=1000)
    assert not made.matcher(Spec("regex", "abc")).is_over
    assert made.kept_nbytes == 0
    made.close()


def test_a_specification_that_fails_leaves_nothing_behind(grammars: Grammars) -> None:
    kept = grammars.kept_nbytes
    with pytest.raises(UsageError):
        grammars.matcher(Spec("regex", "("))
    assert grammars.kept_nbytes == kept


def test_threads_share_the_grammars_of_a_model(grammars: Grammars) -> None:
    found: list[bool] = []

    def ask(number: int) -> None:
        matcher = grammars.matcher(Spec("regex", f"thread{number % 3}"))
        for byte in f"thread{number % 3}".encode():
            matcher.mask(np.zeros(258, np.float32))
            matcher.accept(byte)
        found.append(matcher.is_over)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "phi-3", "deepseek-llm"])
def test_random_logits_over_real_vocabularies_give_json(name: str, shared_data: Path) -> None:
    checkpoint = open_checkpoint(shared_data / "tokenizers" / f"ggml-vocab-{name}.gguf")
    tokenizer = tokenizer_from_gguf(checkpoint.metadata)
    checkpoint.close()
    made = Grammars(tokenizer)
    words = Words(tokenizer, [*tokenizer.eog_ids], tokenizer.vocab_size)
    for text in ("abc", " abc", '{"name": "', "\n\n", "é漢"):
        assert tokenizer.decode(words(text), continues=True) == text
        assert tokenizer.decode(words._longest(text.encode()), continues=True) == text
    for seed in range(3):
        matcher, rng = made.matcher(spec_of(SamplingParams(json_schema=PERSON))), np.random.default_rng(seed)
        ids: list[int] = []
        while not matcher.is_over and len(ids) < 200:
            token = int(matcher.mask(rng.normal(size=tokenizer.vocab_size).astype(np.float32)).argmax())
            if token in tokenizer.eog_ids:
                break
            matcher.accept(token)
            ids.append(token)
        text = tokenizer.decode(ids, skip_special=True, continues=True)
        assert satisfies(json.loads(text), PERSON), text
    made.close()
