"""What one block looks like on disk: a header of 4096 bytes, then the payload, filled up to whole 4096.

The header says everything that must be known to use the payload: it has a checksum of its own and one of the
payload, and its key must be the hash of its parent and its tokens.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xxhash

from apportion.core.disk import Buffer
from apportion.core.errors import BadFile, Unsupported
from apportion.engine.prefix.keys import KEY_NBYTES, chain_keys

MAGIC = b"APKVREC\n"
VERSION = 1
HEADER_NBYTES = 4096
MAX_PAYLOAD_NBYTES = 1 << 32

# magic, version, is dead, number, written at, fingerprint, key, parent, tokens before, tokens, payload bytes,
# payload checksum; then the header's checksum, then the tokens, then zeros.
_FIELDS = struct.Struct("<8sIIQd16s16s16sIIQ16s")
_CHECKSUM = struct.Struct("<Q")
_IDS_AT = _FIELDS.size + _CHECKSUM.size
MAX_TOKENS = (HEADER_NBYTES - _IDS_AT) // 4


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A header.

    Attributes:
        number: grows with every record that a store writes; of two with the same key the larger one counts.
        written_s: when, in seconds since 1970 as the machine believed then.
        fingerprint: of what made the block; a store uses nothing but its own.
        key, parent: the block's and the one's before it.
        num_before: tokens before the block's.
        ids: [num_tokens] the block's tokens.
        payload_nbytes, payload_sum: the payload's length and its `checksum`.
        is_dead: it was removed, or found to be damaged.
    """

    number: int
    written_s: float
    fingerprint: bytes
    key: bytes
    parent: bytes
    num_before: int
    ids: npt.NDArray[np.int32]
    payload_nbytes: int
    payload_sum: bytes
    is_dead: bool = False

    @property
    def nbytes(self) -> int:
        """Of the whole record."""
        return record_nbytes(self.payload_nbytes)

    def dead(self) -> Record:
        """The same, removed."""
        return replace(self, is_dead=True)

    def renumbered(self, number: int) -> Record:
        """The same, written once more."""
        return replace(self, number=number)

    def encode(self) -> bytes:
        """The header's bytes."""
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.is_dead,
            self.number,
            self.written_s,
            self.fingerprint,
            self.key,
            self.parent,
            self.num_before,
            len(self.ids),
            self.payload_nbytes,
            self.payload_sum,
        )
        rest = self.ids.astype("<i4").tobytes().ljust(HEADER_NBYTES - _IDS_AT, b"\0")
        return fields + _header_sum(fields, rest) + rest


def decode(header: bytes) -> Record:
    """The header that these bytes are.

    Raises:
        BadFile: they are none, or a damaged one.
        Unsupported: another version of the format wrote them.
    """
    if len(header) != HEADER_NBYTES or not header.startswith(MAGIC):
        raise BadFile("not the header of a stored block")
    fields, rest = header[: _FIELDS.size], header[_IDS_AT:]
    _, version, state, number, written_s, fingerprint, key, parent, num_before, num_tokens, nbytes, total = (
        _FIELDS.unpack(fields)
    )
    if version != VERSION:
        raise Unsupported("a stored block of another version", version=version, known=VERSION)
    if header[_FIELDS.size : _IDS_AT] != _header_sum(fields, rest):
        raise BadFile("the header of a stored block is damaged")
    if not 0 < num_tokens <= MAX_TOKENS or not 0 < nbytes <= MAX_PAYLOAD_NBYTES or state > 1:
        raise BadFile("the header of a stored block makes no sense", tokens=num_tokens, nbytes=nbytes)
    ids = np.frombuffer(rest, "<i4", num_tokens)
    if chain_keys(ids, parent, num_tokens) != [key]:
        raise BadFile("a stored block's key is not the one of its tokens")
    return Record(
        number, written_s, fingerprint, key, parent, num_before, ids, nbytes, total, is_dead=bool(state)
    )


def checksum(payload: Buffer) -> bytes:
    """16 bytes that tell a payload from a damaged one; they do not protect from forgery."""
    return xxhash.xxh3_128_digest(payload)


def record_nbytes(payload_nbytes: int) -> int:
    """Bytes of a record on disk."""
    return HEADER_NBYTES + -(-payload_nbytes // HEADER_NBYTES) * HEADER_NBYTES


def _header_sum(fields: bytes, rest: bytes) -> bytes:
    return _CHECKSUM.pack(xxhash.xxh3_64_intdigest(fields + rest))


assert KEY_NBYTES == 16
