"""The reference vectors: texts and the ids that each model's own tokenizer gives them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from apportion.formats.gguf import open_gguf
from apportion.text.byte_level import to_chars

_SEPARATOR = "\n__ggml_vocab_test__\n"


def read_vectors(data: Path, name: str) -> tuple[list[str], list[list[int]]]:
    """46 texts and their ids, no special tokens added."""
    base = data / "tokenizers" / f"ggml-vocab-{name}.gguf"
    with Path(f"{base}.inp").open(encoding="utf-8", newline="") as file:
        texts = file.read().split(_SEPARATOR)
    lines = Path(f"{base}.out").read_text().splitlines()
    return texts[: len(lines)], [[int(word) for word in line.split()] for line in lines]


def read_metadata(path: Path) -> dict[str, Any]:
    with open_gguf(path) as checkpoint:
        return dict(checkpoint.metadata)


def qwen2_metadata(ranks: Path) -> dict[str, Any]:
    """Qwen2's base vocabulary from its published ranks: every cut of a token into two tokens is a merge, so
    that merging goes by the rank of what comes out, as in tiktoken.
    """
    entries = [line.split() for line in ranks.read_bytes().splitlines()]
    rank_of = {base64.b64decode(text): int(rank) for text, rank in entries}
    tokens = [to_chars(text) for text in sorted(rank_of, key=rank_of.__getitem__)]
    known = set(tokens)
    merges = [
        f"{token[:cut]} {token[cut:]}"
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
    }
