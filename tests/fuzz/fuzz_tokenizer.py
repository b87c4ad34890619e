"""Coverage-guided fuzzing of tokenizers: GGUF metadata, `tokenizer.model` and `tokenizer.json`, mutated.

A tokenizer loads or fails with an error of ours; one that loads encodes and decodes any text, gives only ids
of its vocabulary, and no control token where none was asked for.
Run it as a script: `python tests/fuzz/fuzz_tokenizer.py -max_total_time=600`.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion"]):
    from apportion.core.errors import ApportionError
    from apportion.formats.side_files import FolderFiles
    from apportion.text.from_folder import read_folder_tokenizer
    from apportion.text.from_gguf import read_gguf_tokenizer
    from apportion.text.tokenizer import Tokenizer

from fuzzing import fuzz
from tests.text.vocabularies import (
    byte_level_metadata,
    sentencepiece_metadata,
    sentencepiece_model,
    tokenizer_json,
    unigram_metadata,
    wordpiece_metadata,
    write_folder,
)

FOLDER = Path(tempfile.mkdtemp(prefix="apportion-fuzz-"))
METADATA = (
    byte_level_metadata(),
    byte_level_metadata("llama-bpe"),
    sentencepiece_metadata(),
    wordpiece_metadata(),
    unigram_metadata(),
)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**64, 1e400, float("nan"), "", " ", "a", "<0x41>", "<0x-1>", "<0xZZ>", "<s>",
    "\0", "\ud800", "a" * 70_000, [], {}, [[]], b"\xff", "tokenizer.ggml.tokens", "\u2581", "##a",
)  # fmt: skip


class Source:
    """Choices out of the fuzzer's bytes."""

    def __init__(self, data: bytes) -> None:
        self._provider = atheris.FuzzedDataProvider(data)

    def below(self, limit: int) -> int:
        return int(self._provider.ConsumeIntInRange(0, limit - 1)) if limit > 0 else 0

    def value(self) -> Any:
        kind = self.below(4)
        if kind == 0:
            return self._provider.ConsumeUnicode(8)
        if kind == 1:
            return self._provider.ConsumeInt(4)
        return ODD[self.below(len(ODD))]

    def text(self) -> str:
        return str(self._provider.ConsumeUnicode(40))

    def rest(self) -> bytes:
        return bytes(self._provider.ConsumeBytes(self._provider.remaining_bytes()))


def mutate(value: Any, source: Source, depth: int = 0) -> Any:
    """The value with one place somewhere inside it changed."""
    if depth < 6 and isinstance(value, dict) and value and source.below(8):
        key = list(value)[source.below(len(value))]
        value[key] = mutate(value[key], source, depth + 1)
        return value
    if isinstance(value, list) and value and source.below(6):
        return mutate_list(value, source, depth)
    return source.value()


def mutate_list(value: list[Any], source: Source, depth: int) -> list[Any]:
    place, other = source.below(len(value)), source.below(len(value))
    kind = source.below(6)
    if kind == 0:
        del value[place]
    elif kind == 1:
        value.insert(place, source.value())
    elif kind == 2:
        value[place] = value[other]
    elif kind == 3:
        value[place], value[other] = value[other], value[place]
    elif kind == 4:
        del value[place:]
    else:
        value[place] = mutate(value[place], source, depth + 1)
    return value


def from_metadata(source: Source) -> Tokenizer:
    metadata: dict[str, Any] = copy.deepcopy(METADATA[source.below(len(METADATA))])
    for _ in range(source.below(4)):
        metadata = mutate(metadata, source)
        if not isinstance(metadata, dict):
            metadata = {}
    return Tokenizer(*read_gguf_tokenizer(metadata))


def from_json(source: Source) -> Tokenizer:
    value = tokenizer_json()
    for _ in range(source.below(4)):
        value = mutate(value, source)
    config = mutate({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "add_bos_token": True}, source)
    data = json.dumps(value, default=str).encode()
    write_folder(FOLDER, tokenizer_json=data, tokenizer_config_json=json.dumps(config, default=str).encode())
    return Tokenizer(*read_folder_tokenizer(FolderFiles(FOLDER)))


def from_model(source: Source) -> Tokenizer:
    data = bytearray(sentencepiece_model())
    for _ in range(source.below(6)):
        data[source.below(len(data))] = source.below(256)
    (FOLDER / "tokenizer.json").unlink(missing_ok=True)
    (FOLDER / "tokenizer_config.json").unlink(missing_ok=True)
    (FOLDER / "tokenizer.model").write_bytes(bytes(data[: len(data) - source.below(40)]) + source.rest())
    return Tokenizer(*read_folder_tokenizer(FolderFiles(FOLDER)))


BUILDERS: tuple[Callable[[Source], Tokenizer], ...] = (from_metadata, from_json, from_model)


def one_input(data: bytes) -> None:
    source = Source(data)
    try:
        tokenizer = BUILDERS[source.below(len(BUILDERS))](source)
    except ApportionError:
        return
    for text in (source.text(), "hello <|im_end|> 12é<think></s>\n"):
        for parse in (False, True):
            try:
                ids = tokenizer.encode(text, parse_special=parse, add_special=False)
            except ApportionError:
                continue
            assert all(0 <= token < tokenizer.vocab_size for token in ids)
            assert parse or tokenizer.control_ids.isdisjoint(ids)
            tokenizer.decode(ids)


if __name__ == "__main__":
    fuzz(one_input, [bytes([kind]) * 64 for kind in range(0, 256, 5)], "-timeout=10")
