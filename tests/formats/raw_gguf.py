"""GGUF files put together by hand, so that each part of them can be wrong."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

ARRAY, STRING, U32, F32, BOOL = 9, 8, 4, 6, 7
Q4_0, TYPE_F32 = 2, 0


def text(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: bytes | str, kind: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + payload


def array(element: int, count: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", element, count) + payload


def entry(
    name: bytes | str,
    dims: tuple[int, ...],
    kind: int = TYPE_F32,
    offset: int = 0,
    num_dims: int | None = None,
) -> bytes:
    count = len(dims) if num_dims is None else num_dims
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", count, *dims, kind, offset)


@dataclass
class RawGguf:
    """A valid small file; change any part, then `build`."""

    magic: bytes = b"GGUF"
    version: int = 3
    pairs: list[bytes] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    data: bytes = b""
    num_pairs: int | None = None
    num_entries: int | None = None
    alignment: int = 32
    cut: int | None = None

    def build(self) -> bytes:
        num_entries = len(self.entries) if self.num_entries is None else self.num_entries
        num_pairs = len(self.pairs) if self.num_pairs is None else self.num_pairs
        head = self.magic + struct.pack("<IQQ", self.version, num_entries, num_pairs)
        body = head + b"".join(self.pairs) + b"".join(self.entries)
        padding = bytes(-len(body) % self.alignment) if self.entries else b""
        return (body + padding + self.data)[: self.cut]

    def write(self, folder: Path, name: str = "model.gguf") -> Path:
        path = folder / name
        path.write_bytes(self.build())
        return path


def valid(rng: random.Random) -> RawGguf:
    """A valid file with some metadata, and two to four tensors of 8 to 64 numbers."""
    raw = RawGguf(version=rng.choice([2, 3]))
    raw.pairs = [pair("general.architecture", STRING, text(rng.choice(["llama", "gemma3", "é"])))]
    for index in range(rng.randint(0, 3)):
        raw.pairs.append(pair(f"some.number.{index}", U32, struct.pack("<I", rng.getrandbits(32))))
    raw.pairs.append(pair("some.floats", ARRAY, array(F32, 3, struct.pack("<3f", 1, 2, 3))))
    rng.shuffle(raw.pairs)
    offset = 0
    for index in range(rng.randint(2, 4)):
        rows, columns = rng.choice([1, 2, 4]), rng.choice([8, 16])
        raw.entries.append(entry(f"blk.{index}.weight", (columns, rows), TYPE_F32, offset))
        offset += 4 * rows * columns
    raw.data = rng.randbytes(offset)
    return raw
