"""Engines that turn plain text into ids on the `tokenizers` library: byte pairs, WordPiece, unigram.

Each is built from a checked vocabulary in memory. Control tokens are left out of what the library sees, so no
text can spell one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from apportion.core.errors import BadFile, Unsupported
from apportion.text.byte_level import to_bytes
from apportion.text.pretokenizers import PreTokenizer
from apportion.text.vocabulary import TokenKind, Vocabulary

SPACE = "\u2581"  # how SentencePiece writes a space inside a token
# The library holds some 200 bytes a character while it works, so long texts go through it in parts.
_LONG_TEXT = 1 << 16
_WORD_END = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
_SPECIAL = (TokenKind.CONTROL, TokenKind.UNKNOWN)


class Engine(Protocol):
    """What a `Tokenizer` needs of a family of tokenizers."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text (valid Unicode, no special tokens in it)."""

    def piece(self, token: str) -> bytes:
        """The bytes that a normal token stands for."""


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Errors and panics of the tokenizer library as BadFile: they come from what the file says."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A panic of the library is no Exception but derives from BaseException.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BadFile(what, str(error)[:300]) from None


class BpeEngine:
    """Byte-pair merging by ranks, after the family's own cutting into words."""

    def __init__(self, vocabulary: Vocabulary, merges: Any, rule: PreTokenizer) -> None:
        from tokenizers import Tokenizer

        self._to_bytes = to_bytes if rule.bytes_as_chars else spaced_bytes
        self._escape_spaces = not rule.bytes_as_chars
        self._spans_spaces = rule.spans_spaces
        with library_errors("tokenizer: the merges do not fit the vocabulary"):
            self._library = Tokenizer(_bpe_model(vocabulary, _checked_merges(merges), rule))
            self._library.pre_tokenizer = word_splitter(rule)

    def encode(self, text: str) -> list[int]:
        if self._escape_spaces:
            text = text.replace(" ", SPACE)
        if self._spans_spaces or len(text) <= _LONG_TEXT:
            return library_ids(self._library, text)
        return [token for part in _pieces(text) for token in library_ids(self._library, part)]

    def piece(self, token: str) -> bytes:
        return self._to_bytes(token)


def _pieces(text: str) -> Iterator[str]:
    """A long text in parts, cut only where the rules that cut words at spaces always do."""
    start = 0
    while len(text) - start > _LONG_TEXT and (found := _WORD_END.search(text, start + _LONG_TEXT // 2)):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def spaced_bytes(token: str) -> bytes:
    """A token in which U+2581 stands for a space, as bytes."""
    return token.replace(SPACE, " ").encode("utf-8")


def library_ids(library: Any, text: str) -> list[int]:
    """Ids of a text alone. Raises BadFile where the library cannot run the file's rules on it."""
    with library_errors("tokenizer: a rule of the file cannot be run on this text"):
        ids: list[int] = library.encode(text, add_special_tokens=False).ids
        return ids


def word_splitter(rule: PreTokenizer) -> Any:
    """The library object that cuts text into the words of a family (`pre_tokenize_str`)."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = [pre_tokenizers.Split(Regex(split), "isolated") for split in rule.splits]
    if rule.bytes_as_chars:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(steps)


def _checked_merges(merges: Any) -> list[tuple[str, str]]:
    if not isinstance(merges, Sequence) or isinstance(merges, str | bytes):
        raise BadFile("tokenizer: the merges are not a list", found=type(merges).__name__)
    pairs = []
    for place, merge in enumerate(merges):
        if not isinstance(merge, str) or (cut := merge.find(" ", 1)) < 0:
            raise BadFile("tokenizer: a merge is not two tokens", merge=repr(merge)[:64], place=place)
        pairs.append((merge[:cut], merge[cut + 1 :]))
    return pairs


def _bpe_model(vocabulary: Vocabulary, merges: list[tuple[str, str]], rule: PreTokenizer) -> Any:
    from tokenizers import models

    ids = {token: place for place, token in enumerate(vocabulary.tokens)}
    special = {vocabulary.tokens[place] for place in vocabulary.ids_of(*_SPECIAL)}
    for token in special:
        del ids[token]
    if special:
        merges = [pair for pair in merges if pair[0] + pair[1] not in special]
    return models.BPE(ids, merges, ignore_merges=rule.whole_words, byte_fallback=not rule.bytes_as_chars)


class WordPieceEngine:
    """Greedy longest pieces of lower-cased words (BERT). GGUF marks the start of a word with U+2581."""

    def __init__(self, vocabulary: Vocabulary, unknown: int) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        skipped = set(vocabulary.ids_of(TokenKind.CONTROL)) - {unknown}
        ids = {
            vocabulary.tokens[place] if place == unknown else _hashed(vocabulary.tokens[place]): place
            for place in range(len(vocabulary))
            if place not in skipped
        }
        with library_errors("tokenizer: the WordPiece vocabulary is not usable"):
            model = models.WordPiece(ids, unk_token=vocabulary.tokens[unknown], max_input_chars_per_word=100)
            self._library = Tokenizer(model)
            self._library.normalizer = normalizers.BertNormalizer()
            self._library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str) -> list[int]:
        return library_ids(self._library, text)

    def piece(self, token: str) -> bytes:
        return spaced_bytes(token)


def _hashed(token: str) -> str:
    return token[1:] if token.startswith(SPACE) else "##" + token


class UnigramEngine:
    """The most probable segmentation (SentencePiece unigram, T5)."""

    def __init__(
        self, vocabulary: Vocabulary, unknown: int, *, charsmap: bytes, space_prefix: bool, squeeze: bool
    ) -> None:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

        if vocabulary.scores is None:
            raise BadFile("tokenizer: a unigram vocabulary has no scores")
        # Control tokens keep their place in the list but get a spelling that no text has.
        hidden = set(vocabulary.ids_of(TokenKind.CONTROL))
        pieces = [
            ("\0" * 2 + token if place in hidden else token, float(score))
            for place, (token, score) in enumerate(zip(vocabulary.tokens, vocabulary.scores, strict=True))
        ]
        byte_fallback = TokenKind.BYTE in vocabulary.kinds
        steps: list[Any] = []
        with library_errors("tokenizer: the unigram vocabulary is not usable"):
            self._library = Tokenizer(models.Unigram(pieces, unknown, byte_fallback))
            if charsmap:
                steps.append(normalizers.Precompiled(charsmap))
            if squeeze:
                steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
            if steps:
                self._library.normalizer = normalizers.Sequence(steps)
            self._library.pre_tokenizer = pre_tokenizers.Metaspace(
                prepend_scheme="always" if space_prefix else "never", split=False
            )

    def encode(self, text: str) -> list[int]:
        return library_ids(self._library, text)

    def piece(self, token: str) -> bytes:
        return spaced_bytes(token)


def no_engine(name: str) -> Unsupported:
    """The refusal of a tokenizer that no engine here runs."""
    return Unsupported(
        f"tokenizer: the kind {name[:64]!r} is not supported",
        hint="supported: llama (SentencePiece), gpt2 (byte-level BPE), gemma4, bert, t5 (unigram)",
    )
