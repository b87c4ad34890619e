"""Tokenizers: text to ids and back, the same for every family and every kind of file.

`load_tokenizer` takes what a checkpoint offers: GGUF metadata (a mapping) or the folder that holds
`tokenizer.json` or `tokenizer.model`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from apportion.core.errors import UsageError
from apportion.text.vocabulary import TokenKind, Vocabulary, byte_value


class TextEngine(Protocol):
    """Encodes text in which special tokens may or may not be recognized."""

    def encode(self, text: str, parse_special: bool) -> list[int]: ...

    def piece(self, token: str) -> bytes:
        """The bytes that a normal token stands for."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds an encoded text, and which ids mean something to the engine.

    `prefix` and `suffix` are added to every text (beginning and end of sequence). `space_prefix`: the first
    token carries a leading space that the text does not have.
    """

    bos_id: int | None = None
    eos_id: int | None = None
    eog_ids: frozenset[int] = frozenset()
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    space_prefix: bool = False


class Tokenizer:
    """One model's tokenizer. Safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary, engine: TextEngine, frame: Frame) -> None:
        self._vocabulary = vocabulary
        self._engine = engine
        self._frame = frame
        self._control = frozenset(vocabulary.ids_of(TokenKind.CONTROL))
        self._hidden = self._control | frozenset(vocabulary.ids_of(TokenKind.UNKNOWN))
        self._pieces: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens, {type(self._engine).__name__})"

    @property
    def vocab_size(self) -> int:
        """Number of ids; the model's output may be padded to more."""
        return len(self._vocabulary)

    @property
    def bos_id(self) -> int | None:
        """Beginning of sequence."""
        return self._frame.bos_id

    @property
    def eos_id(self) -> int | None:
        """End of sequence."""
        return self._frame.eos_id

    @property
    def eog_ids(self) -> frozenset[int]:
        """All ids that end an answer: end of sequence, of turn, of message."""
        return self._frame.eog_ids

    @cached_property
    def longest_token(self) -> int:
        """Characters of a text that one token stands for at most."""
        return max(map(len, self._vocabulary.tokens), default=1)

    @property
    def control_ids(self) -> frozenset[int]:
        """All control tokens: what `encode` never gives for plain text."""
        return self._control

    @property
    def adds_bos(self) -> bool:
        """Whether `encode` begins a text with the beginning-of-sequence token."""
        return self.bos_id is not None and self.bos_id in self._frame.prefix

    @property
    def space_prefix(self) -> bool:
        """Whether the first token of a text carries a leading space that the text does not have."""
        return self._frame.space_prefix

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Ids of `text`. Lone surrogates count as U+FFFD.

        Args:
            add_special: add what the model expects around a text (beginning of sequence and the like).
            parse_special: recognize control tokens by their spelling, as in a rendered chat template. Off, no
                text can yield a control token; tokens that the vocabulary defines for plain text still match.
        """
        text = _valid_unicode(text)
        ids = self._engine.encode(text, parse_special) if text else []
        if not parse_special and not self._control.isdisjoint(ids):
            ids = self._encode_apart(text)
        return [*self._frame.prefix, *ids, *self._frame.suffix] if add_special else ids

    def _encode_apart(self, text: str) -> list[int]:
        """Encode a text in which the engine saw a control token: each spelling of one is cut after its first
        character.
        """
        for token in {self.token_text(token) for token in self._control}:
            if len(token) > 1:
                text = text.replace(token, token[0] + "\0\0" + token[1:])
        ids = [token for part in text.split("\0\0") if part for token in self._engine.encode(part, False)]
        return [token for token in ids if token not in self._control]

    def decode(self, ids: Iterable[int], *, skip_special: bool = False, continues: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD.

        Args:
            skip_special: leave out control tokens.
            continues: the ids go on after earlier text, so the first token's leading space stays.
        """
        data = b"".join(self.token_bytes(i) for i in ids if not (skip_special and self.is_special(i)))
        if self.space_prefix and not continues:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token adds to a text. Raises UsageError for an id outside the vocabulary."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self.bytes_of(token)
        return found

    def bytes_of(self, token: int) -> bytes:
        """As `token_bytes`, for callers that want each token once: nothing is kept."""
        text = self.token_text(token)
        kind = self._vocabulary.kinds[token]
        if kind == TokenKind.BYTE:
            return bytes([byte_value(text)])
        if kind in (TokenKind.CONTROL, TokenKind.UNKNOWN, TokenKind.USER_DEFINED):
            return text.encode()
        return self._engine.piece(text)

    def token_text(self, token: int) -> str:
        """A token as the vocabulary spells it. Raises UsageError for an id outside the vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise UsageError("no such token id", id=int(token), vocab_size=self.vocab_size)
        return self._vocabulary.tokens[token]

    def is_special(self, token: int) -> bool:
        """Whether the id is a control token (begin, end, role marks) or the unknown token, not text."""
        return token in self._hidden


def _valid_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
