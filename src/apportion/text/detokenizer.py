"""Incremental detokenization: text as soon as it is whole, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Collection

from apportion.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns ids into text one at a time. All that `feed` and the last `flush` return, joined, is exactly
    `tokenizer.decode(ids)` with the same options.

    Args:
        skip_special: leave out control tokens.
        continues: the ids go on after earlier text, so the first token's leading space stays.
        shown: control tokens that are not left out.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = False,
        continues: bool = False,
        shown: Collection[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._shown = shown
        self._at_start = tokenizer.space_prefix and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that this id completes; empty while a character still lacks bytes.

        Raises:
            UsageError: the id is outside the vocabulary.
        """
        if self._skip_special and token not in self._shown and self._tokenizer.is_special(token):
            return ""
        data = self._tokenizer.token_bytes(token)
        if self._at_start and data:
            data = data.removeprefix(b" ")
            self._at_start = False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """The rest at the end of the text: U+FFFD for bytes that no character came of."""
        return self._decoder.decode(b"", final=True)
