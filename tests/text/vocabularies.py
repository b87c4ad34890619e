"""Tiny vocabularies of each kind, as GGUF metadata, and files made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from apportion.text.byte_level import CHAR_OF_BYTE, to_chars
from apportion.text.sentencepiece_model import BPE, SentencePieceRules, model_bytes
from apportion.text.vocabulary import TokenKind, Vocabulary

SPACE = "\u2581"
WORDS = ("the", "he", "hello", "world", "in", "ing", "1", "12", "é", "你好", "<|")
CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_TOKEN = "<think>"
N, U, C, D, B = (int(TokenKind[kind]) for kind in ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "BYTE"))


def byte_level_merges(words: tuple[str, ...] = WORDS) -> list[str]:
    """Merges that build each word, with and without a space before it, from the left."""
    merges: dict[str, None] = {}
    for word in words:
        for text in (word, " " + word):
            chars = to_chars(text.encode())
            for end in range(1, len(chars)):
                merges[f"{chars[:end]} {chars[end]}"] = None
    return list(merges)


def byte_level_metadata(pre: str = "gpt-2", **changes: Any) -> dict[str, Any]:
    """Byte-level BPE with all 256 bytes, a few words, three control tokens and one user-defined token."""
    merges = byte_level_merges()
    tokens = [CHAR_OF_BYTE[byte] for byte in range(256)]
    tokens += dict.fromkeys("".join(merge.split(" ")) for merge in merges)
    kinds = [N] * len(tokens) + [C] * len(CONTROLS) + [D]
    return _changed(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.tokens": [*tokens, *CONTROLS, USER_TOKEN],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.bos_token_id": len(tokens),
            "tokenizer.ggml.eos_token_id": len(tokens) + 2,
        },
        changes,
    )


def sentencepiece_metadata(**changes: Any) -> dict[str, Any]:
    """SentencePiece BPE with byte fallback, a few words, BOS and EOS."""
    pieces: dict[str, None] = {}
    for word in WORDS:
        for text in (word, SPACE + word):
            pieces |= dict.fromkeys(text[:end] for end in range(2, len(text) + 1))
    words = [text for text in pieces if len(text) > 1]
    chars = [SPACE, *dict.fromkeys("".join(words).replace(SPACE, "") + "abcdefghijklmnopqrstuvwxyz")]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *chars, USER_TOKEN]
    kinds = [U, C, C] + [B] * 256 + [N] * (len(words) + len(chars)) + [D]
    scores = [0.0] * 259 + [-float(place) for place in range(len(words))] + [-1e6] * len(chars) + [-1000.0]
    return _changed(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
        },
        changes,
    )


def wordpiece_metadata(**changes: Any) -> dict[str, Any]:
    """BERT's WordPiece as GGUF spells it: U+2581 begins a word."""
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        SPACE + "hello",
        SPACE + "wor",
        "ld",
        SPACE + ",",
        SPACE + "e",
    ]
    return _changed(
        {
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [C, U, C, C] + [N] * 5,
            "tokenizer.ggml.unknown_token_id": 1,
            "tokenizer.ggml.cls_token_id": 2,
            "tokenizer.ggml.seperator_token_id": 3,
        },
        changes,
    )


def unigram_metadata(**changes: Any) -> dict[str, Any]:
    """A unigram vocabulary (T5): the likelier of several segmentations wins."""
    pieces = {
        SPACE: -3.0,
        SPACE + "he": -4.0,
        "llo": -4.0,
        SPACE + "hello": -5.0,
        "l": -6.0,
        "o": -6.0,
        "w": -6.0,
    }
    return _changed(
        {
            "tokenizer.ggml.model": "t5",
            "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", *pieces],
            "tokenizer.ggml.token_type": [C, C, U] + [N] * len(pieces),
            "tokenizer.ggml.scores": [0.0, 0.0, 0.0, *pieces.values()],
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.ggml.unknown_token_id": 2,
        },
        changes,
    )


def _changed(metadata: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        metadata["tokenizer.ggml." + key] = value
    return {key: value for key, value in metadata.items() if value is not None}


def sentencepiece_model() -> bytes:
    """A `tokenizer.model` with the tiny SentencePiece vocabulary."""
    metadata = sentencepiece_metadata()
    import numpy as np

    vocabulary = Vocabulary(
        metadata["tokenizer.ggml.tokens"],
        bytes(metadata["tokenizer.ggml.token_type"]),
        np.array(metadata["tokenizer.ggml.scores"], np.float32),
    )
    return model_bytes(vocabulary, SentencePieceRules(unknown=0, model_type=BPE))


def tokenizer_json() -> dict[str, Any]:
    """A `tokenizer.json` with the tiny byte-level vocabulary, a rule that adds BOS, and special tokens."""
    metadata = byte_level_metadata()
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    first = len(tokens) - len(CONTROLS) - 1
    bos = {"id": CONTROLS[0], "ids": [first], "tokens": [CONTROLS[0]]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": first + place, "content": text, "special": text != USER_TOKEN, **flags}
            for place, text in enumerate((*CONTROLS, USER_TOKEN))
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": CONTROLS[0], "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {CONTROLS[0]: bos},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: place for place, token in enumerate(tokens[:first])},
            "merges": merges,
        },
    }


def write_folder(folder: Path, **files: Any) -> Path:
    """Write files named by keyword (`tokenizer_json`: tokenizer.json), bytes as they are, others as JSON."""
    names = {"tokenizer_model": "tokenizer.model", "chat_template_jinja": "chat_template.jinja"}
    for key, value in files.items():
        path = folder / names.get(key, key.removesuffix("_json") + ".json")
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return folder
