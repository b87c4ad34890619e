"""Writing GGUF version 3: the header at once, then tensor after tensor, then one rename.

At no time is more than one tensor (or one chunk of it, where the caller gives chunks) in memory, and a file
under the final name is always whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from apportion.core.disk import Disk, DiskFile, write_all
from apportion.core.errors import ApportionError, UsageError
from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.gguf.encode import encode_pair, encode_string
from apportion.formats.gguf.header import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_ALIGNMENT,
    MAX_DIMS,
)
from apportion.formats.gguf.values import ValueType
from apportion.formats.names import why_not_a_name
from apportion.formats.source_file import REAL_DISK

VERSION = 3
MAX_NAME_NBYTES = 63  # what ggml reads, with its closing NUL, into 64 bytes

Data: TypeAlias = Bytes | Callable[[], Bytes | Iterable[Bytes]]


class NewTensor(NamedTuple):
    """A tensor to be written; a plain tuple of the same four will do.

    Attributes:
        name: up to 63 bytes.
        format: its block format.
        shape: row-major, 1 to 4 dimensions, the last a multiple of the block size.
        data: its bytes as uint8 of any shape, or a function that returns them, whole or in chunks, when
            their turn comes.
    """

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    data: Data

    @property
    def nbytes(self) -> int:
        return prod(self.shape[:-1]) * self.format.row_nbytes(self.shape[-1])


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Iterable[NewTensor | tuple[str, BlockFormat, tuple[int, ...], Data]],
    alignment: int | None = None,
    *,
    types: Mapping[str, ValueType] | None = None,
    disk: Disk = REAL_DISK,
) -> None:
    """Write a GGUF file that readers see whole or not at all.

    Args:
        path: its final name.
        metadata: key-value pairs, in this order.
        tensors: in file order.
        alignment: of tensor offsets, a power of two; by default what `metadata` says, else 32.
        types: the value type for some keys; `GgufCheckpoint.value_types` makes a copy exact. For the rest see
            `formats.gguf.encode`.
        disk: where to write.

    Raises:
        UsageError: something cannot be written as GGUF; nothing was written.
        DiskFault: the operating system failed a write; an older file at `path` is untouched.
    """
    path = Path(path)
    listed = [NewTensor(*tensor) for tensor in tensors]
    alignment = _alignment(metadata, alignment)
    header = encode_header(metadata, listed, alignment, types)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk.open(draft, "create") as file:
        try:
            _write_data(file, header, listed, alignment)
            file.fdatasync()
            disk.rename(draft, path)
        except BaseException:
            _discard(disk, draft)
            raise
    disk.sync_folder(path.parent)


def _alignment(metadata: Mapping[str, Any], asked: int | None) -> int:
    alignment = int(metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)) if asked is None else asked
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise UsageError(
            f"alignment {alignment} is refused", f"a power of two up to {MAX_ALIGNMENT} is needed"
        )
    return alignment


def encode_header(
    metadata: Mapping[str, Any],
    tensors: Sequence[NewTensor],
    alignment: int,
    types: Mapping[str, ValueType] | None = None,
) -> bytes:
    """Everything before the data, padded. The tensors follow in their order, each padded to `alignment`.

    Raises:
        UsageError: something cannot be written as GGUF.
    """
    if alignment != DEFAULT_ALIGNMENT or ALIGNMENT_KEY in metadata:
        metadata = {**metadata, ALIGNMENT_KEY: np.uint32(alignment)}
    types = {**(types or {}), ALIGNMENT_KEY: ValueType.UINT32}
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    parts += [encode_pair(key, value, types.get(key)) for key, value in metadata.items()]
    names: set[str] = set()
    offset = 0
    for tensor in tensors:
        _check(tensor, names)
        dims = tensor.shape[::-1]
        parts.append(encode_string(tensor.name))
        parts.append(struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.format.ggml_type, offset))
        offset += tensor.nbytes + _padding(tensor.nbytes, alignment)
    header = b"".join(parts)
    return header + bytes(_padding(len(header), alignment))


def _check(tensor: NewTensor, names: set[str]) -> None:
    """Refuse what could not be read back; adds the name to `names`."""
    name, shape = tensor.name, tensor.shape
    reason = why_not_a_name(name)
    if len(name.encode("utf-8", "replace")) > MAX_NAME_NBYTES:
        reason = f"it is longer than {MAX_NAME_NBYTES} bytes"
    if name in names:
        reason = "another tensor has it"
    if reason:
        raise UsageError(f"tensor name {name[:80]!a} is refused", reason)
    names.add(name)
    if not 1 <= len(shape) <= MAX_DIMS or min(shape) < 1:
        raise UsageError(f"tensor {name!r} cannot be written", f"its shape is {shape}")
    if tensor.format.ggml_type < 0 or shape[-1] % tensor.format.block_size:
        raise UsageError(
            f"tensor {name!r} cannot be written as {tensor.format.name}",
            "its rows are not whole blocks" if tensor.format.ggml_type >= 0 else "GGUF has no such type",
            columns=shape[-1],
            block_size=tensor.format.block_size,
        )


def _write_data(file: DiskFile, header: bytes, tensors: list[NewTensor], alignment: int) -> None:
    write_all(file, header, 0)
    offset = len(header)
    for tensor in tensors:
        end = offset + tensor.nbytes
        for chunk in _chunks(tensor.data):
            if offset + chunk.nbytes > end:
                raise _wrong_size(tensor)
            write_all(file, np.ascontiguousarray(chunk).data.cast("B"), offset)
            offset += chunk.nbytes
        if offset != end:
            raise _wrong_size(tensor)
        padding = bytes(_padding(tensor.nbytes, alignment))
        write_all(file, padding, offset)
        offset += len(padding)


def _chunks(data: Data) -> Iterator[Bytes]:
    given = data() if callable(data) else data
    chunks = [given] if isinstance(given, np.ndarray) else given
    return (chunk for chunk in chunks if chunk.nbytes)


def _wrong_size(tensor: NewTensor) -> UsageError:
    return UsageError(
        f"the data of tensor {tensor.name!r} does not fit its shape",
        shape=tensor.shape,
        format=tensor.format.name,
        expected_nbytes=tensor.nbytes,
    )


def _padding(nbytes: int, alignment: int) -> int:
    return -nbytes % alignment


def _discard(disk: Disk, draft: Path) -> None:
    with suppress(ApportionError):  # the failure that brought us here is the one to report
        disk.remove(draft)
