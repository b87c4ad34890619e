"""Special tokens around any engine: what is special is cut out first, the rest is encoded as plain text."""

from __future__ import annotations

from apportion.text.engines import Engine
from apportion.text.special import SpecialSplitter, SpecialToken
from apportion.text.vocabulary import TokenKind, Vocabulary

MATCHED = (TokenKind.CONTROL, TokenKind.USER_DEFINED, TokenKind.UNKNOWN)


class SplittingEngine:
    """Cuts special tokens out of the text, then lets an engine encode the plain pieces."""

    def __init__(
        self, engine: Engine, vocabulary: Vocabulary, strips_right: frozenset[str] = frozenset()
    ) -> None:
        self._engine = engine
        self._plain = _splitter(vocabulary, (TokenKind.USER_DEFINED,), strips_right)
        self._special = _splitter(vocabulary, MATCHED, strips_right)

    def encode(self, text: str, parse_special: bool) -> list[int]:
        ids: list[int] = []
        for part in (self._special if parse_special else self._plain).split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._engine.encode(part)
        return ids

    def piece(self, token: str) -> bytes:
        return self._engine.piece(token)


def _splitter(
    vocabulary: Vocabulary, kinds: tuple[TokenKind, ...], strips_right: frozenset[str]
) -> SpecialSplitter:
    found = {}
    for token in vocabulary.ids_of(*kinds):
        text = vocabulary.tokens[token]
        found[text] = SpecialToken(token, text in strips_right)
    return SpecialSplitter(found)
