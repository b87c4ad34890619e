"""A tokenizer from a Hugging Face folder: `tokenizer.json`, else `tokenizer.model`; `tokenizer_config.json`
and `generation_config.json` say which tokens begin and end a text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from apportion.core.errors import BadFile, LimitExceeded, NotFound
from apportion.formats.bounded_json import MAX_CONFIG_NBYTES, parse_json_bounded
from apportion.formats.side_files import SideFiles
from apportion.text.byte_level import to_bytes
from apportion.text.engines import library_errors, library_ids, no_engine, spaced_bytes
from apportion.text.sentencepiece_model import BPE, SentencePieceEngine, SentencePieceRules, read_model
from apportion.text.special import UNMISTAKABLE_ENDS, end_ids
from apportion.text.splitting import SplittingEngine
from apportion.text.tokenizer import Frame, TextEngine
from apportion.text.vocabulary import MAX_TOKENS, TokenKind, Vocabulary, checked_vocabulary

MAX_TOKENIZER_NBYTES = 64 << 20
_MAX_PROBED_SPECIALS = 4


def read_folder_tokenizer(files: SideFiles) -> tuple[Vocabulary, TextEngine, Frame]:
    """Vocabulary, engine and frame from a folder's files; raises as `tokenizer_from_folder`."""
    config = _Config(files)
    if files.has("tokenizer.json"):
        return _from_json(files.read("tokenizer.json", MAX_TOKENIZER_NBYTES), config)
    if files.has("tokenizer.model"):
        return _from_sentencepiece(files.read("tokenizer.model", MAX_TOKENIZER_NBYTES), config)
    raise NotFound(
        f"no tokenizer in {files.place}",
        "neither tokenizer.json nor tokenizer.model is there",
        "fetch the model's tokenizer files into the same folder",
    )


class _Config:
    """What the folder's small files say about special tokens; absent files say nothing."""

    def __init__(self, files: SideFiles) -> None:
        self._tokenizer = _object(files, "tokenizer_config.json")
        self._generation = _object(files, "generation_config.json")
        self._added = _object(files, "added_tokens.json")

    def token(self, name: str) -> str | None:
        """The text of `bos_token`, `eos_token` or `unk_token`."""
        value = self._tokenizer.get(name)
        if isinstance(value, Mapping):
            value = value.get("content")
        if value is not None and not isinstance(value, str):
            raise BadFile(f"tokenizer_config.json: {name} is not a text", found=type(value).__name__)
        return value

    def flag(self, name: str) -> bool | None:
        value = self._tokenizer.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadFile(f"tokenizer_config.json: {name} is not true or false", found=type(value).__name__)
        return value

    def end_ids(self, vocab_size: int) -> set[int]:
        """`eos_token_id` of generation_config.json: one id or several."""
        value = self._generation.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
                raise BadFile(
                    "generation_config.json: eos_token_id is outside the vocabulary",
                    id=str(token)[:32],
                    vocab_size=vocab_size,
                )
        return set(ids)

    def added(self) -> dict[int, tuple[str, bool]]:
        """Tokens beside `tokenizer.model`: id -> text, whether it is a control token."""
        found: dict[int, tuple[str, bool]] = {}
        for text, token in self._added.items():
            found[_id(token)] = (text, False)
        decoder = self._tokenizer.get("added_tokens_decoder", {})
        if not isinstance(decoder, Mapping):
            raise BadFile("tokenizer_config.json: added_tokens_decoder is not an object")
        for token, entry in decoder.items():
            if not isinstance(entry, Mapping) or not isinstance(entry.get("content"), str):
                raise BadFile("tokenizer_config.json: an added token has no content", token=token[:32])
            found[_id(token)] = (entry["content"], entry.get("special") is True)
        return found


def _object(files: SideFiles, name: str) -> Mapping[str, Any]:
    if not files.has(name):
        return {}
    value = parse_json_bounded(files.read(name, MAX_CONFIG_NBYTES), name)
    if not isinstance(value, dict):
        raise BadFile(f"{name} is not a JSON object", found=type(value).__name__)
    return value


def _id(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or len(text) > 8:
        raise BadFile("an added token has no valid id", id=text[:32])
    return int(text)


class LibraryEngine:
    """A whole `tokenizer.json`, run by the `tokenizers` library."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._lock = threading.Lock()  # whether control tokens count is a setting of the shared object
        steps = (repr(library.decoder), repr(library.pre_tokenizer))
        self._piece = to_bytes if any("ByteLevel" in step for step in steps) else spaced_bytes
        self._word_pieces = "WordPiece" in steps[0]

    def encode(self, text: str, parse_special: bool) -> list[int]:
        with self._lock:
            self._library.encode_special_tokens = not parse_special
            return library_ids(self._library, text)

    def piece(self, token: str) -> bytes:
        if self._word_pieces:
            return token[2:].encode() if token.startswith("##") else b" " + token.encode()
        return self._piece(token)

    def adds_space(self) -> bool:
        """Whether the first token carries a space that the text does not have."""
        if self._word_pieces:
            return True
        steps = repr(self._library.normalizer) + repr(self._library.pre_tokenizer)
        return "Prepend(" in steps or 'prepend_scheme="always"' in steps or 'prepend_scheme="first"' in steps

    def frame_ids(self) -> tuple[list[int], list[int]]:
        """Ids that the file's own post-processor puts before and after a text."""
        plain = library_ids(self._library, "a")
        with library_errors("tokenizer.json: the post-processor is not usable"):
            framed: list[int] = self._library.encode("a").ids
        for start in range(min(len(framed) - len(plain), _MAX_PROBED_SPECIALS) + 1):
            if framed[start : start + len(plain)] == plain:
                return framed[:start], framed[start + len(plain) :]
        return [], []


def _from_json(data: bytes, config: _Config) -> tuple[Vocabulary, TextEngine, Frame]:
    from tokenizers import Tokenizer

    with library_errors("tokenizer.json is not usable"):
        library = Tokenizer.from_buffer(data)
        library.no_truncation()
        library.no_padding()
    vocabulary = _library_vocabulary(library)
    engine = LibraryEngine(library)
    prefix, suffix = engine.frame_ids()
    frame = _frame(vocabulary, config, prefix, suffix, space_prefix=engine.adds_space())
    return vocabulary, engine, frame


def _library_vocabulary(library: Any) -> Vocabulary:
    ids: dict[str, int] = library.get_vocab(with_added_tokens=True)
    size = max(ids.values(), default=-1) + 1
    if size > MAX_TOKENS:
        raise LimitExceeded("tokenizer.json: a token id is too large", id=size - 1, limit=MAX_TOKENS)
    if not size or len(set(ids.values())) != len(ids):
        raise BadFile("tokenizer.json: the vocabulary is empty, or two tokens share one id", tokens=len(ids))
    tokens = [""] * size
    for token, place in ids.items():
        tokens[place] = token
    kinds = bytearray([TokenKind.NORMAL]) * size
    for place, added in library.get_added_tokens_decoder().items():
        control = added.special or added.content in UNMISTAKABLE_ENDS
        kinds[place] = TokenKind.CONTROL if control else TokenKind.USER_DEFINED
    if "ByteFallback" in repr(library.decoder):
        for byte in range(256):
            token = f"<0x{byte:02X}>"
            if token in ids:
                kinds[ids[token]] = TokenKind.BYTE
    return Vocabulary(tokens, bytes(kinds))


def _from_sentencepiece(data: bytes, config: _Config) -> tuple[Vocabulary, TextEngine, Frame]:
    vocabulary, rules = read_model(data)
    if rules.model_type != BPE:
        raise no_engine(f"SentencePiece model type {rules.model_type}")
    if not 0 <= rules.unknown < len(vocabulary):
        raise BadFile("tokenizer.model: the unknown token is outside the vocabulary", id=rules.unknown)
    vocabulary = _with_added(vocabulary, config.added())
    engine = SplittingEngine(SentencePieceEngine(vocabulary, rules), vocabulary)
    prefix, suffix = _sentencepiece_frame(rules, vocabulary, config)
    frame = _frame(vocabulary, config, prefix, suffix, space_prefix=rules.space_prefix)
    return vocabulary, engine, frame


def _sentencepiece_frame(
    rules: SentencePieceRules, vocabulary: Vocabulary, config: _Config
) -> tuple[list[int], list[int]]:
    # Llama's and Gemma's own classes begin every text with BOS unless the folder says otherwise.
    prefix = (
        [rules.bos] if 0 <= rules.bos < len(vocabulary) and config.flag("add_bos_token") is not False else []
    )
    suffix = [rules.eos] if 0 <= rules.eos < len(vocabulary) and config.flag("add_eos_token") else []
    return prefix, suffix


def _with_added(vocabulary: Vocabulary, added: Mapping[int, tuple[str, bool]]) -> Vocabulary:
    tokens, kinds = list(vocabulary.tokens), list(vocabulary.kinds)
    scores = [] if vocabulary.scores is None else vocabulary.scores.tolist()
    for place, (text, control) in sorted(added.items()):
        if place > len(tokens) or (place < len(tokens) and tokens[place] != text):
            raise BadFile("an added token does not fit the vocabulary", token=text[:64], id=place)
        kind = TokenKind.CONTROL if control or text in UNMISTAKABLE_ENDS else TokenKind.USER_DEFINED
        if place == len(tokens):
            tokens.append(text)
            scores.append(-1000.0)
            kinds.append(kind)
        elif kinds[place] == TokenKind.NORMAL:
            kinds[place] = kind
    return checked_vocabulary(tokens, kinds, scores)


def _frame(
    vocabulary: Vocabulary, config: _Config, prefix: list[int], suffix: list[int], *, space_prefix: bool
) -> Frame:
    bos, eos = _find(vocabulary, config.token("bos_token")), _find(vocabulary, config.token("eos_token"))
    ends = end_ids({vocabulary.tokens[token]: token for token in vocabulary.ids_of(TokenKind.CONTROL)})
    ends |= config.end_ids(len(vocabulary)) | ({eos} if eos is not None else set())
    return Frame(
        bos_id=bos if bos is not None else next(iter(prefix), None),
        eos_id=eos if eos is not None else next(iter(suffix), None),
        eog_ids=frozenset(ends),
        prefix=_framed(prefix, bos, config.flag("add_bos_token"), at_start=True),
        suffix=_framed(suffix, eos, config.flag("add_eos_token"), at_start=False),
        space_prefix=space_prefix,
    )


def _framed(ids: Iterable[int], token: int | None, wanted: bool | None, *, at_start: bool) -> tuple[int, ...]:
    """The post-processor's ids, corrected by what tokenizer_config.json says in so many words."""
    found = list(ids)
    if token is None or wanted is None or wanted == (token in found):
        return tuple(found)
    if not wanted:
        return tuple(place for place in found if place != token)
    return (token, *found) if at_start else (*found, token)


def _find(vocabulary: Vocabulary, text: str | None) -> int | None:
    """The id of a special token's text; a name that no token has is a broken folder."""
    if text is None:
        return None
    try:
        return list(vocabulary.tokens).index(text)
    except ValueError:
        raise BadFile("tokenizer_config.json names a token that is not there", token=text[:64]) from None
