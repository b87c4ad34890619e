"""SentencePiece models as bytes: written for the library, read from `tokenizer.model`.

The format is Google's `sentencepiece_model.proto` (protocol buffers). Only the fields that decide ids are
read or written; a file is never handed to the library as it came.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apportion.core.errors import BadFile, Truncated
from apportion.text.engines import library_errors, spaced_bytes
from apportion.text.vocabulary import TokenKind, Vocabulary, byte_value, checked_vocabulary

UNIGRAM, BPE = 1, 2


@dataclass(frozen=True, slots=True)
class SentencePieceRules:
    """What a model says beside its vocabulary."""

    unknown: int
    model_type: int = BPE
    bos: int = -1
    eos: int = -1
    space_prefix: bool = True
    squeeze_spaces: bool = False
    charsmap: bytes = b""


class SentencePieceEngine:
    """Merging by scores, run by the `sentencepiece` library."""

    def __init__(self, vocabulary: Vocabulary, rules: SentencePieceRules) -> None:
        from sentencepiece import SentencePieceProcessor

        data = model_bytes(_library_vocabulary(vocabulary, rules.unknown), rules)
        with library_errors("tokenizer: the SentencePiece vocabulary is not usable"):
            self._library = SentencePieceProcessor(model_proto=data)
        self._normalize = _normalizer(rules.charsmap)

    def encode(self, text: str) -> list[int]:
        if self._normalize is not None:
            with library_errors("tokenizer: the normalization table is broken"):
                text = self._normalize.normalize_str(text)
        ids: list[int] = self._library.encode(text)
        return ids

    def piece(self, token: str) -> bytes:
        return spaced_bytes(token)


def _normalizer(charsmap: bytes) -> Any:
    if not charsmap:
        return None
    from tokenizers import normalizers

    with library_errors("tokenizer: the normalization table is broken"):
        return normalizers.Precompiled(charsmap)


def _library_vocabulary(vocabulary: Vocabulary, unknown: int) -> Vocabulary:
    """The kinds as the library wants them: one unknown token, 256 byte tokens or none.

    User-defined tokens are cut out of the text before the library sees it; in merging they are like others.
    """
    table = np.frombuffer(vocabulary.kinds, np.uint8).copy()
    table[table == TokenKind.UNKNOWN] = TokenKind.CONTROL
    table[table == TokenKind.USER_DEFINED] = TokenKind.NORMAL
    if table[unknown] == TokenKind.BYTE:
        raise BadFile("tokenizer: the unknown token is a byte token", token=unknown)
    table[unknown] = TokenKind.UNKNOWN
    found = {byte_value(vocabulary.tokens[token]) for token in vocabulary.ids_of(TokenKind.BYTE)}
    if found and len(found) != 256:
        raise BadFile("tokenizer: some byte tokens are missing", found=len(found), need=256)
    return replace(vocabulary, kinds=table.tobytes())


def model_bytes(vocabulary: Vocabulary, rules: SentencePieceRules) -> bytes:
    """A serialized `ModelProto` with this vocabulary (empty tokens get a spelling of their own)."""
    scores = vocabulary.scores
    raw = (np.zeros(len(vocabulary), np.float32) if scores is None else scores).astype("<f4").tobytes()
    tails = [b"\x18" + bytes([kind]) for kind in range(TokenKind.BYTE + 1)]
    sizes = [_varint(size) for size in range(512)]
    out = []
    for place, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        text = token.encode() or b"[EMPTY_%d]" % place
        size = len(text)
        body = b"%b%b\x15%b%b" % (
            sizes[size] if size < 512 else _varint(size),
            text,
            raw[4 * place : 4 * place + 4],
            tails[kind],
        )
        size = len(body) + 1
        out.append(b"\x0a%b\x0a%b" % (sizes[size] if size < 512 else _varint(size), body))
    trainer = _field(3, rules.model_type) + _field(35, int(TokenKind.BYTE in vocabulary.kinds))
    trainer += _field(40, rules.unknown)
    normalizer = _field(3, int(rules.space_prefix)) + _field(4, int(rules.squeeze_spaces)) + _field(5, 1)
    out += [b"\x12", _varint(len(trainer)), trainer, b"\x1a", _varint(len(normalizer)), normalizer]
    return b"".join(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def read_model(data: bytes) -> tuple[Vocabulary, SentencePieceRules]:
    """Vocabulary and rules of a `tokenizer.model`.

    Raises:
        BadFile: not a SentencePiece model, or its vocabulary breaks a rule (see `checked_vocabulary`).
    """
    tokens: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number not in (1, 2, 3) or not isinstance(value, bytes):
            continue
        fields = dict(_fields(value))
        if number == 1:
            tokens.append(_text(fields.get(1, b"")))
            scores.append(_score(fields.get(2, b"\0\0\0\0")))
            kinds.append(_whole(fields, 3, TokenKind.NORMAL))
        else:
            (trainer if number == 2 else normalizer).update(fields)
    vocabulary = checked_vocabulary(tokens, kinds, scores)
    return vocabulary, _rules(trainer, normalizer)


def _rules(trainer: dict[int, int | bytes], normalizer: dict[int, int | bytes]) -> SentencePieceRules:
    charsmap = normalizer.get(2, b"")
    return SentencePieceRules(
        unknown=_whole(trainer, 40, 0),
        model_type=_whole(trainer, 3, UNIGRAM),
        bos=_whole(trainer, 41, 1),
        eos=_whole(trainer, 42, 2),
        space_prefix=bool(_whole(normalizer, 3, 1)),
        squeeze_spaces=bool(_whole(normalizer, 4, 1)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
    )


def _whole(fields: dict[int, int | bytes], number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise BadFile("tokenizer.model: a field has the wrong type", field=number)
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: int | bytes) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else ""
    except UnicodeDecodeError as error:
        raise BadFile("tokenizer.model: a token is not UTF-8 text", str(error)[:200]) from None


def _score(value: int | bytes) -> float:
    if not isinstance(value, bytes) or len(value) != 4:
        raise BadFile("tokenizer.model: a score has the wrong type")
    return float(struct.unpack("<f", value)[0])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one protocol-buffer message: whole numbers as int, everything else as bytes."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _read_varint(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _read_varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise BadFile("tokenizer.model: not a SentencePiece model", offset=place, wire_type=wire)
        if size > len(data) - place:
            raise Truncated("tokenizer.model: a field ends after the file", offset=place, size=size)
        yield number, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise Truncated("tokenizer.model: a number ends after the file", offset=place)
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise BadFile("tokenizer.model: a number is too long", offset=place)
