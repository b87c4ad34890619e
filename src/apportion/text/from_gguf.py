"""A tokenizer from GGUF metadata: the keys under `tokenizer.ggml`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from apportion.core.errors import BadFile
from apportion.text.engines import BpeEngine, Engine, UnigramEngine, WordPieceEngine, no_engine
from apportion.text.pretokenizers import PreTokenizer, pre_tokenizer
from apportion.text.sentencepiece_model import SentencePieceEngine, SentencePieceRules
from apportion.text.special import UNMISTAKABLE_ENDS, end_ids
from apportion.text.splitting import MATCHED, SplittingEngine
from apportion.text.tokenizer import Frame
from apportion.text.vocabulary import TokenKind, Vocabulary, checked_vocabulary

_PREFIX = "tokenizer.ggml."


class _Metadata:
    """Typed access to the tokenizer's keys; a wrong type is a BadFile that names the key."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._values = metadata

    def array(self, key: str) -> Any:
        return self._values.get(_PREFIX + key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._values.get(_PREFIX + key, default)
        if value is None:
            raise BadFile(f"tokenizer: the file has no {_PREFIX}{key}")
        if not isinstance(value, str):
            raise BadFile(f"tokenizer: {_PREFIX}{key} is not a text", found=type(value).__name__)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(_PREFIX + key, default)
        if not isinstance(value, bool | np.bool_):
            raise BadFile(f"tokenizer: {_PREFIX}{key} is not true or false", found=type(value).__name__)
        return bool(value)

    def token(self, key: str, default: int | None, vocab_size: int) -> int | None:
        """A token id; a default that is outside the vocabulary counts as none."""
        value = self._values.get(f"{_PREFIX}{key}_token_id")
        if value is None:
            return default if default is not None and default < vocab_size else None
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise BadFile(f"tokenizer: {_PREFIX}{key}_token_id is not a number", found=type(value).__name__)
        if not 0 <= value < vocab_size:
            raise BadFile(
                f"tokenizer: {_PREFIX}{key}_token_id is outside the vocabulary",
                id=int(value),
                vocab_size=vocab_size,
            )
        return int(value)


def read_gguf_tokenizer(metadata: Mapping[str, Any]) -> tuple[Vocabulary, SplittingEngine, Frame]:
    """Vocabulary, engine and frame from metadata; raises as `tokenizer_from_gguf`."""
    keys = _Metadata(metadata)
    kind = keys.text("model")
    build = _BUILDERS.get(kind)
    if build is None:
        raise no_engine(kind)
    vocabulary = checked_vocabulary(keys.array("tokens"), keys.array("token_type"), keys.array("scores"))
    vocabulary = _with_known_kinds(vocabulary, keys)
    engine, frame = build(keys, vocabulary)
    return vocabulary, SplittingEngine(engine, vocabulary, _strips_right(metadata, vocabulary)), frame


def _with_known_kinds(vocabulary: Vocabulary, keys: _Metadata) -> Vocabulary:
    """Correct kinds that files are known to get wrong: marks of an answer's end are control tokens, and
    a file without kinds still has byte tokens and a begin and an end.
    """
    changes = {}
    ends = UNMISTAKABLE_ENDS
    for token, text in enumerate(vocabulary.tokens):
        if text in ends:
            changes[token] = TokenKind.CONTROL
    if keys.array("token_type") is None:
        for token, text in enumerate(vocabulary.tokens):
            if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                changes[token] = TokenKind.BYTE
        for name in ("bos", "eos"):
            found = keys.token(name, None, len(vocabulary))
            if found is not None:
                changes[found] = TokenKind.CONTROL
    return vocabulary.with_kinds(changes)


def _strips_right(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> frozenset[str]:
    """Phi-3's special tokens swallow the white space after them; GGUF has no field for it, only the name."""
    name = str(metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    texts = {vocabulary.tokens[token] for token in vocabulary.ids_of(*MATCHED)}
    return frozenset(texts - {"<unk>", "<s>", "<|endoftext|>"})


def _frame(
    keys: _Metadata,
    vocabulary: Vocabulary,
    *,
    bos: int | None,
    eos: int | None,
    adds_bos: bool,
    adds_eos: bool = False,
    space_prefix: bool = False,
) -> Frame:
    size = len(vocabulary)
    bos_id, eos_id = keys.token("bos", bos, size), keys.token("eos", eos, size)
    more = (keys.token("eot", None, size), keys.token("eom", None, size), eos_id)
    ends = end_ids({vocabulary.tokens[token]: token for token in vocabulary.ids_of(TokenKind.CONTROL)})
    prefix = (bos_id,) if bos_id is not None and keys.flag("add_bos_token", adds_bos) else ()
    suffix = (eos_id,) if eos_id is not None and keys.flag("add_eos_token", adds_eos) else ()
    return Frame(
        bos_id=bos_id,
        eos_id=eos_id,
        eog_ids=frozenset(ends | {token for token in more if token is not None}),
        prefix=prefix,
        suffix=suffix,
        space_prefix=space_prefix,
    )


def _sentencepiece(keys: _Metadata, vocabulary: Vocabulary) -> tuple[Engine, Frame]:
    space_prefix = keys.flag("add_space_prefix", True)
    unknown = keys.token("unknown", 0, len(vocabulary))
    rules = SentencePieceRules(
        unknown=unknown or 0,
        space_prefix=space_prefix,
        squeeze_spaces=keys.flag("remove_extra_whitespaces", False),
        charsmap=_charsmap(keys),
    )
    if vocabulary.scores is None:
        raise BadFile("tokenizer: a SentencePiece vocabulary has no scores")
    frame = _frame(keys, vocabulary, bos=1, eos=2, adds_bos=True, space_prefix=space_prefix)
    return SentencePieceEngine(vocabulary, rules), frame


def _unigram(keys: _Metadata, vocabulary: Vocabulary) -> tuple[Engine, Frame]:
    space_prefix = keys.flag("add_space_prefix", True)
    engine = UnigramEngine(
        vocabulary,
        keys.token("unknown", 2, len(vocabulary)) or 0,
        charsmap=_charsmap(keys),
        space_prefix=space_prefix,
        squeeze=keys.flag("remove_extra_whitespaces", False),
    )
    frame = _frame(
        keys, vocabulary, bos=None, eos=1, adds_bos=False, adds_eos=True, space_prefix=space_prefix
    )
    return engine, frame


def _charsmap(keys: _Metadata) -> bytes:
    """The precompiled normalization table: an array of signed or unsigned bytes in GGUF."""
    values = keys.array("precompiled_charsmap")
    if values is None:
        return b""
    try:
        table = np.asarray(values)
        if table.ndim != 1 or table.dtype.kind not in "iu":
            raise ValueError(f"{table.ndim} dimensions of {table.dtype}")
        return (table.astype(np.int64) & 0xFF).astype(np.uint8).tobytes()
    except (ValueError, TypeError, OverflowError) as error:
        raise BadFile("tokenizer: precompiled_charsmap is not an array of bytes", str(error)[:200]) from None


def _byte_pair(keys: _Metadata, vocabulary: Vocabulary, rule: PreTokenizer) -> tuple[Engine, Frame]:
    merges = keys.array("merges")
    if merges is None:
        raise BadFile("tokenizer: the file has no tokenizer.ggml.merges")
    frame = _frame(keys, vocabulary, bos=None, eos=None, adds_bos=rule.adds_bos)
    return BpeEngine(vocabulary, merges, rule), frame


def _gpt2(keys: _Metadata, vocabulary: Vocabulary) -> tuple[Engine, Frame]:
    return _byte_pair(keys, vocabulary, pre_tokenizer(keys.text("pre", "default")))


def _gemma4(keys: _Metadata, vocabulary: Vocabulary) -> tuple[Engine, Frame]:
    return _byte_pair(keys, vocabulary, pre_tokenizer("gemma4"))


def _wordpiece(keys: _Metadata, vocabulary: Vocabulary) -> tuple[Engine, Frame]:
    unknown = keys.token("unknown", 100, len(vocabulary))
    if unknown is None:
        raise BadFile("tokenizer: a WordPiece vocabulary needs an unknown token", vocab_size=len(vocabulary))
    begin = keys.token("cls", None, len(vocabulary))
    end = keys.token("seperator", 102, len(vocabulary))  # the key's spelling is GGUF's own
    frame = _frame(
        keys, vocabulary, bos=101 if begin is None else begin, eos=end, adds_bos=True, adds_eos=True
    )
    return WordPieceEngine(vocabulary, unknown), frame


_BUILDERS: dict[str, Callable[[_Metadata, Vocabulary], tuple[Engine, Frame]]] = {
    "llama": _sentencepiece,
    "gpt2": _gpt2,
    "gemma4": _gemma4,
    "bert": _wordpiece,
    "t5": _unigram,
}
