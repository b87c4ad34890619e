"""The GGUF header: magic, version, metadata and tensor table, read once from front to back.

Nothing is trusted: each count is checked against the bytes left before anything is allocated, so that time
and memory stay linear in the header's bytes. Layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from apportion.core.errors import BadFile, Truncated, Unsupported
from apportion.formats.blocks import format_by_ggml_type
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.gguf.cursor import Cursor
from apportion.formats.gguf.values import DTYPES, MAX_ARRAY_DEPTH, SCALARS, TypedList, ValueType
from apportion.formats.names import why_not_a_name
from apportion.formats.source_file import SourceFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 2 << 20
MAX_DIMS = 4
MAX_KEY_NBYTES = 65_535
MAX_NAME_NBYTES = 1024
MIN_PAIR_NBYTES = 8 + 1 + 4 + 1  # key length, a key, type, the smallest value
MIN_TENSOR_NBYTES = 8 + 1 + 4 + 8 + 4 + 8  # name length, a name, n_dims, one dim, type, offset


@dataclass(frozen=True, slots=True)
class Header:
    """What one GGUF file says about itself. Tensor offsets are absolute."""

    version: int
    alignment: int
    metadata: dict[str, Any]
    value_types: dict[str, ValueType]
    tensors: dict[str, TensorInfo]
    data_offset: int


def read_header(file: SourceFile, file_index: int = 0) -> Header:
    """Read and check the header of an open file.

    Raises:
        BadFile, Truncated: the file breaks the format.
        Unsupported: another version, byte order or block format.
        LimitExceeded: a header, string or nesting beyond the stated caps.
    """
    cursor = Cursor(file)
    version = _read_version(cursor)
    num_tensors = cursor.u64("the number of tensors")
    num_pairs = cursor.u64("the number of metadata pairs")
    cursor.require(num_pairs * MIN_PAIR_NBYTES + num_tensors * MIN_TENSOR_NBYTES, "the header")
    metadata, value_types = _read_metadata(cursor, num_pairs)
    alignment = _alignment(cursor, metadata, value_types)
    entries = _read_tensor_table(cursor, num_tensors)
    data_offset = -(-cursor.offset // alignment) * alignment
    tensors = {
        name: _place(cursor, entry, data_offset, alignment, file_index) for name, entry in entries.items()
    }
    _refuse_overlaps(cursor, tensors)
    return Header(version, alignment, metadata, value_types, tensors, data_offset)


def _read_version(cursor: Cursor) -> int:
    name = cursor.file.path.name
    magic = cursor.take(4, "the magic number")
    if magic != MAGIC:
        raise BadFile(f"{name} is not a GGUF file", f"it begins with {magic!r}", "give a .gguf model file")
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if version and version & 0xFFFF == 0:  # 3 with its bytes in the other order
        raise Unsupported(
            f"{name} is big-endian", "only little-endian files are read", "convert it to little-endian"
        )
    raise Unsupported(
        f"{name} has GGUF version {version}",
        f"versions {VERSIONS[0]} and {VERSIONS[1]} are read",
        "convert the model again with a current tool",
    )


def _read_metadata(cursor: Cursor, count: int) -> tuple[dict[str, Any], dict[str, ValueType]]:
    metadata: dict[str, Any] = {}
    value_types: dict[str, ValueType] = {}
    for index in range(count):
        key = cursor.string(f"metadata key {index}", MAX_KEY_NBYTES)
        if reason := why_not_a_name(key):
            raise cursor.bad(f"metadata key {index} is refused", reason, key=ascii(key[:80]))
        if key in metadata:
            raise cursor.bad(f"metadata key {key!r} stands twice")
        value_types[key] = _read_type(cursor, key)
        metadata[key] = _read_value(cursor, value_types[key], key)
    return metadata, value_types


def _read_type(cursor: Cursor, key: str) -> ValueType:
    offset = cursor.offset
    number = cursor.u32(f"the type of {key}")
    try:
        return ValueType(number)
    except ValueError:
        raise cursor.bad(f"unknown value type of {key!r}", type=number, offset=offset) from None


def _read_value(cursor: Cursor, value_type: ValueType, key: str) -> Any:
    if value_type is ValueType.STRING:
        return cursor.string(f"the value of {key}")
    if value_type is ValueType.ARRAY:
        return _read_array(cursor, key, 1)
    (value,) = cursor.unpack(SCALARS[value_type], f"the value of {key}")
    if value_type is ValueType.BOOL:
        if value not in (0, 1):
            raise cursor.bad(f"{key!r} is neither true nor false", value=value)
        return bool(value)
    return value


def _read_array(cursor: Cursor, key: str, depth: int) -> Any:
    if depth > MAX_ARRAY_DEPTH:
        raise cursor.bad(f"arrays of {key!r} lie too deep", depth=depth, limit=MAX_ARRAY_DEPTH)
    element = _read_type(cursor, f"the elements of {key}")
    count = cursor.u64(f"the length of {key}")
    what = f"the array {key}"
    if element is ValueType.STRING:
        return TypedList(element, cursor.strings(count, what))
    if element is ValueType.ARRAY:
        cursor.require(12 * count, what)  # each has at least a type and a length
        return TypedList(element, [_read_array(cursor, key, depth + 1) for _ in range(count)])
    if element is ValueType.BOOL:
        flags = cursor.array(np.dtype("u1"), count, what)
        if count and int(flags.max()) > 1:
            raise cursor.bad(f"{what} holds values that are neither true nor false")
        return flags.view(np.bool_)
    return cursor.array(DTYPES[element], count, what)


def _alignment(cursor: Cursor, metadata: dict[str, Any], value_types: dict[str, ValueType]) -> int:
    if ALIGNMENT_KEY not in metadata:
        return DEFAULT_ALIGNMENT
    if value_types[ALIGNMENT_KEY] is not ValueType.UINT32:
        raise cursor.bad(f"{ALIGNMENT_KEY} is not a 32-bit count", type=value_types[ALIGNMENT_KEY].name)
    alignment = int(metadata[ALIGNMENT_KEY])
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.bad(
            f"{ALIGNMENT_KEY} is refused",
            "it must be a power of two",
            alignment=alignment,
            limit=MAX_ALIGNMENT,
        )
    return alignment


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the tensor table as it stands in the file."""

    name: str
    shape: tuple[int, ...]
    ggml_type: int
    offset: int  # from the start of the data


def _read_tensor_table(cursor: Cursor, count: int) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for index in range(count):
        entry = _read_entry(cursor, index)
        if entry.name in entries:
            raise cursor.bad(f"tensor {entry.name!r} stands twice")
        entries[entry.name] = entry
    return entries


def _read_entry(cursor: Cursor, index: int) -> _Entry:
    name = cursor.string(f"the name of tensor {index}", MAX_NAME_NBYTES)
    if reason := why_not_a_name(name):
        raise cursor.bad(f"the name of tensor {index} is refused", reason, name=ascii(name[:80]))
    what = f"the entry of tensor {name}"
    num_dims = cursor.u32(what)
    if not 1 <= num_dims <= MAX_DIMS:
        raise cursor.bad(f"tensor {name!r} has {num_dims} dimensions", f"1 to {MAX_DIMS} are allowed")
    shape = tuple(cursor.u64(what) for _ in range(num_dims))[::-1]
    return _Entry(name, shape, cursor.u32(what), cursor.u64(what))


def _place(cursor: Cursor, entry: _Entry, data_offset: int, alignment: int, file_index: int) -> TensorInfo:
    """Check an entry against its block format and the file's size."""
    name, shape = entry.name, entry.shape
    if 0 in shape:
        raise cursor.bad(f"tensor {name!r} has no elements", shape=shape)
    try:
        block_format = format_by_ggml_type(entry.ggml_type)
    except Unsupported as error:
        raise Unsupported(
            f"tensor {name!r} in {cursor.file.path.name} has an unknown block format",
            error.why,
            error.hint,
            ggml_type=entry.ggml_type,
        ) from None
    if shape[-1] % block_format.block_size:
        raise cursor.bad(
            f"rows of tensor {name!r} are not whole blocks",
            format=block_format.name,
            columns=shape[-1],
            block_size=block_format.block_size,
        )
    offset = data_offset + entry.offset
    nbytes = prod(shape[:-1]) * block_format.row_nbytes(shape[-1])
    if entry.offset % alignment:
        raise cursor.bad(f"tensor {name!r} is misaligned", offset=entry.offset, alignment=alignment)
    if offset + nbytes > cursor.file.size:
        raise Truncated(
            f"tensor {name!r} reaches past the end of {cursor.file.path.name}",
            hint="the file is cut off or damaged; copy or download it again",
            offset=offset,
            nbytes=nbytes,
            file_size=cursor.file.size,
        )
    return TensorInfo(name, block_format, shape, file_index, offset, nbytes)


def _refuse_overlaps(cursor: Cursor, tensors: dict[str, TensorInfo]) -> None:
    in_order = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    for before, after in pairwise(in_order):
        if before.offset + before.nbytes > after.offset:
            raise cursor.bad(f"tensors {before.name!r} and {after.name!r} overlap", offset=after.offset)
