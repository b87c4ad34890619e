"""A vocabulary: every token's text, kind and score, checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from apportion.core.errors import BadFile, LimitExceeded

MAX_TOKENS = 4_000_000
MAX_TEXT_BYTES = 100 * 1024 * 1024
MAX_TOKEN_CHARS = 65_536


class TokenKind(IntEnum):
    """GGUF's `tokenizer.ggml.token_type`, which is SentencePiece's piece type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id. `kinds[id]` is a `TokenKind`; `scores` is float32[n], None where the file has none."""

    tokens: Sequence[str]
    kinds: bytes
    scores: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.kinds)

    def ids_of(self, *kinds: TokenKind) -> list[int]:
        """All ids of these kinds, ascending."""
        table = np.frombuffer(self.kinds, np.uint8)
        return [int(i) for i in np.flatnonzero(np.isin(table, kinds))]

    def with_kinds(self, changes: Mapping[int, TokenKind]) -> Vocabulary:
        """A copy in which some tokens have another kind."""
        kinds = bytearray(self.kinds)
        for token, kind in changes.items():
            kinds[token] = kind
        return Vocabulary(self.tokens, bytes(kinds), self.scores)


def checked_vocabulary(tokens: Any, kinds: Any, scores: Any) -> Vocabulary:
    """Check three parallel arrays from a file; `kinds` and `scores` may be None.

    Raises:
        BadFile: wrong types, lengths that differ, duplicate or empty tokens, NaN scores, broken byte tokens.
        LimitExceeded: more tokens or text than any real vocabulary has.
    """
    _check_tokens(tokens)
    vocabulary = Vocabulary(tokens, _checked_kinds(kinds, tokens), _checked_scores(scores, len(tokens)))
    for token in vocabulary.ids_of(TokenKind.BYTE):
        byte_value(tokens[token])
    return vocabulary


def byte_value(token: str) -> int:
    """The byte that a `<0xNN>` token stands for. Raises BadFile for any other spelling."""
    try:
        value = int(token[3:5], 16) if token[3:5].isalnum() else -1
    except ValueError:
        value = -1
    if value < 0 or token != f"<0x{value:02X}>":
        raise BadFile(
            "vocabulary: a byte token is not spelled <0x00> to <0xFF>",
            "byte fallback needs exactly one token for each byte value",
            token=repr(token[:32]),
        )
    return value


def _check_tokens(tokens: Any) -> None:
    if not isinstance(tokens, Sequence) or isinstance(tokens, str | bytes):
        raise BadFile("vocabulary: the tokens are not a list", found=type(tokens).__name__)
    if not tokens:
        raise BadFile("vocabulary: there are no tokens")
    if len(tokens) > MAX_TOKENS:
        raise LimitExceeded("vocabulary: too many tokens", tokens=len(tokens), limit=MAX_TOKENS)
    try:
        chars, longest = sum(map(len, tokens)), max(map(len, tokens))
        "".join(tokens).encode("utf-8")
    except (TypeError, UnicodeEncodeError) as error:
        raise BadFile("vocabulary: a token is not UTF-8 text", str(error)[:200]) from None
    if chars > MAX_TEXT_BYTES or longest > MAX_TOKEN_CHARS:
        raise LimitExceeded("vocabulary: the tokens are too long", chars=chars, longest=longest)
    if len(set(tokens)) != len(tokens):
        raise _duplicate(tokens)


def _duplicate(tokens: Sequence[str]) -> BadFile:
    what = "vocabulary: a token occurs twice"
    first: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if token in first:
            return BadFile(what, token=repr(token[:64]), first=first[token], second=place)
        first[token] = place
    return BadFile(what)


def _checked_kinds(kinds: Any, tokens: Sequence[str]) -> bytes:
    if kinds is None:
        return bytes([TokenKind.NORMAL]) * len(tokens)
    table = _numbers(kinds, "token types", len(tokens))
    if not np.issubdtype(table.dtype, np.integer):
        raise BadFile("vocabulary: the token types are not integers", found=str(table.dtype))
    # 0 (undefined) and types newer than the format say nothing that we could act on.
    table = np.where((table < TokenKind.NORMAL) | (table > TokenKind.BYTE), TokenKind.NORMAL, table)
    return bytes(table.astype(np.uint8).tobytes())


def _checked_scores(scores: Any, count: int) -> npt.NDArray[np.float32] | None:
    if scores is None:
        return None
    with np.errstate(over="ignore"):
        table = _numbers(scores, "scores", count).astype(np.float32)
    if np.isnan(table).any():
        raise BadFile("vocabulary: a score is not a number", token=int(np.flatnonzero(np.isnan(table))[0]))
    return table


def _numbers(values: Any, name: str, count: int) -> npt.NDArray[Any]:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str | bytes):
        raise BadFile(f"vocabulary: the {name} are not a list", found=type(values).__name__)
    if len(values) != count:
        raise BadFile(f"vocabulary: the {name} do not match the tokens", tokens=count, found=len(values))
    try:
        table = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise BadFile(f"vocabulary: the {name} are not numbers", str(error)[:200]) from None
    if table.ndim != 1 or table.dtype.kind not in "iuf":
        raise BadFile(f"vocabulary: the {name} are not numbers", found=str(table.dtype))
    return table
