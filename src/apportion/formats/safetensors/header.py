"""The header of a safetensors file: a length, a JSON object, then the tensors' bytes without gap or overlap.

Layout: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from apportion.core.errors import BadFile, LimitExceeded, Truncated, Unsupported
from apportion.formats.block import BlockFormat
from apportion.formats.bounded_json import parse_json_bounded
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.names import why_not_a_name
from apportion.formats.safetensors.dtypes import DTYPES
from apportion.formats.source_file import SourceFile

MAX_HEADER_NBYTES = 100_000_000  # the format's own limit
MAX_DEPTH = 3  # the object of tensors, a tensor, its shape
MAX_NAME_LENGTH = 1024
MAX_DIMS = 8
METADATA_KEY = "__metadata__"


@dataclass(frozen=True, slots=True)
class Header:
    """What one safetensors file says about itself. Tensor offsets are absolute; tensors are in file order."""

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    data_offset: int


def read_header(source: SourceFile, file_index: int = 0) -> Header:
    """Read and check the header of an open file.

    Raises:
        BadFile, Truncated: the file breaks the format.
        Unsupported: a number type that this version does not know.
        LimitExceeded: the header is longer than 100 MB.
    """
    entries, data_offset = _read_entries(source)
    metadata = _text_metadata(source, entries.pop(METADATA_KEY, {}))
    placed = [_place(source, name, entry, data_offset, file_index) for name, entry in entries.items()]
    placed.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_tiling(source, placed, data_offset)
    return Header(metadata, {tensor.name: tensor for tensor in placed}, data_offset)


def _read_entries(source: SourceFile) -> tuple[dict[str, Any], int]:
    name = source.path.name
    if source.size < 8:
        raise Truncated(
            f"{name} is too short", "a safetensors file has at least 8 bytes", file_size=source.size
        )
    length = bytearray(8)
    source.read_into(memoryview(length), 0)
    nbytes = int.from_bytes(length, "little")
    if nbytes > MAX_HEADER_NBYTES:
        raise LimitExceeded(f"the header of {name} is too large", nbytes=nbytes, limit=MAX_HEADER_NBYTES)
    if 8 + nbytes > source.size:
        raise Truncated(f"{name} ends inside its header", header_nbytes=nbytes, file_size=source.size)
    text = bytearray(nbytes)
    source.read_into(memoryview(text), 8)
    if not text.startswith(b"{"):
        raise BadFile(f"{name} is not a safetensors file", f"its header begins with {bytes(text[:4])!r}")
    entries = parse_json_bounded(bytes(text), f"the header of {name}", MAX_DEPTH)
    assert isinstance(entries, dict)  # it begins with a brace
    return entries, 8 + nbytes


def _text_metadata(source: SourceFile, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _bad(source, f"{METADATA_KEY} does not map text to text")
    return value


def _place(source: SourceFile, name: str, entry: Any, data_offset: int, file_index: int) -> TensorInfo:
    """Check one entry on its own."""
    if reason := why_not_a_name(name) or ("it is too long" if len(name) > MAX_NAME_LENGTH else None):
        raise _bad(source, f"tensor name {name[:80]!a} is refused", reason)
    if not isinstance(entry, dict):
        raise _bad(source, f"the entry of tensor {name!r} is no object")
    block_format = _dtype(source, name, entry.get("dtype"))
    shape = _counts(entry.get("shape"), MAX_DIMS)
    offsets = _counts(entry.get("data_offsets"), 2)
    if shape is None or offsets is None or len(offsets) != 2:
        raise _bad(source, f"tensor {name!r} has no proper shape and data_offsets")
    start, stop = offsets
    nbytes = _nbytes(shape, block_format)
    if nbytes is None or stop - start != nbytes:
        raise _bad(
            source,
            f"tensor {name!r} does not fill its bytes",
            dtype=entry["dtype"],
            shape=shape,
            offsets=offsets,
        )
    if data_offset + stop > source.size:
        raise Truncated(
            f"tensor {name!r} reaches past the end of {source.path.name}",
            hint="the file is cut off or damaged; download it again",
            end=data_offset + stop,
            file_size=source.size,
        )
    return TensorInfo(name, block_format, shape, file_index, data_offset + start, nbytes)


def _dtype(source: SourceFile, name: str, value: Any) -> BlockFormat:
    if not isinstance(value, str):
        raise _bad(source, f"tensor {name!r} has no dtype")
    block_format = DTYPES.get(value)
    if block_format is None:
        raise Unsupported(
            f"tensor {name!r} in {source.path.name} has dtype {value[:40]!a}",
            hint=f"known ones are {', '.join(DTYPES)}",
        )
    return block_format


def _counts(value: Any, max_length: int) -> tuple[int, ...] | None:
    """A short list of counts, each from 0 to 2^63 - 1; None for anything else."""
    if not isinstance(value, list) or len(value) > max_length:
        return None
    if not all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        return None
    return tuple(value)


def _nbytes(shape: tuple[int, ...], block_format: BlockFormat) -> int | None:
    """None when the rows are not whole blocks."""
    columns = shape[-1] if shape else 1
    if columns % block_format.block_size:
        return None
    return prod(shape[:-1]) * block_format.row_nbytes(columns)


def _check_tiling(source: SourceFile, tensors: list[TensorInfo], data_offset: int) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    end = data_offset
    for tensor in tensors:
        if tensor.offset != end:
            problem = "overlaps the one before it" if tensor.offset < end else "leaves a gap before it"
            raise _bad(source, f"tensor {tensor.name!r} {problem}", offset=tensor.offset, expected=end)
        end += tensor.nbytes
    if end != source.size:
        raise _bad(source, "there are bytes after the last tensor", end=end, file_size=source.size)


def _bad(source: SourceFile, what: str, why: str = "", **numbers: object) -> BadFile:
    hint = "the file is damaged, or was written by a faulty tool"
    return BadFile(f"{what} in {source.path.name}", why, hint, **numbers)
