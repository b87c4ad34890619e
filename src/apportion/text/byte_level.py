"""The byte-level alphabet: each of the 256 bytes as one printable character, as GPT-2 defined it.

Bytes that are printable in Latin-1 stand for themselves; the other 68 are moved to U+0100 and up, in order.
"""

from __future__ import annotations

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_MOVED = [byte for byte in range(256) if byte not in set(_PRINTABLE)]

CHAR_OF_BYTE: dict[int, str] = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(0x100 + place) for place, byte in enumerate(_MOVED)
}
BYTE_OF_CHAR: dict[str, int] = {char: byte for byte, char in CHAR_OF_BYTE.items()}


def to_chars(data: bytes) -> str:
    """The bytes, spelled in the byte-level alphabet."""
    return "".join(map(CHAR_OF_BYTE.__getitem__, data))


def to_bytes(text: str) -> bytes:
    """The bytes that `text` spells; a text outside the alphabet stands for itself, in UTF-8."""
    try:
        return bytes(map(BYTE_OF_CHAR.__getitem__, text))
    except KeyError:
        return text.encode("utf-8", "replace")
