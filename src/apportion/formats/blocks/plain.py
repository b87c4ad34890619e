"""Numbers stored one by one, little-endian.

    f32   sign 1 | exponent 8 | fraction 23        f16   sign 1 | exponent 5 | fraction 10
    bf16  sign 1 | exponent 8 | fraction 7         f64   sign 1 | exponent 11 | fraction 52
    i8 i16 i32 i64   two's complement

bf16 is the upper half of an f32. Numbers of f64, i32 and i64 are rounded to the nearest f32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from apportion.formats.block import BlockFormat, Bytes, Floats


def _decode(blocks: Bytes, dtype: str) -> Floats:
    return np.ascontiguousarray(blocks).view(dtype).astype(np.float32)


def _encode(values: Floats, dtype: str) -> Bytes:
    stored = np.ascontiguousarray(values.astype(dtype))
    return stored.view(np.uint8).reshape(len(values), -1)


def decode_bf16(blocks: Bytes) -> Floats:
    upper = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32)
    upper <<= np.uint32(16)
    return upper.view(np.float32)


def encode_bf16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; a NaN stays one (its quiet bit is set)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet_nan = (bits >> np.uint32(16)) | np.uint32(0x40)
    upper = np.where(np.isnan(values), quiet_nan, nearest).astype("<u2")
    return upper.view(np.uint8).reshape(len(values), 2)


def _number(name: str, ggml_type: int, dtype: str, *, write: bool, native: bool = False) -> BlockFormat:
    encode: Callable[[Floats], Bytes] | None = partial(_encode, dtype=dtype) if write else None
    nbytes = np.dtype(dtype).itemsize
    return BlockFormat(name, ggml_type, 1, nbytes, partial(_decode, dtype=dtype), encode, native)


FORMATS = (
    _number("f32", 0, "<f4", write=True, native=True),
    _number("f16", 1, "<f2", write=True, native=True),
    BlockFormat("bf16", 30, 1, 2, decode_bf16, encode_bf16, native=True),
    _number("f64", 28, "<f8", write=True),
    _number("i8", 24, "<i1", write=False),
    _number("i16", 25, "<i2", write=False),
    _number("i32", 26, "<i4", write=False),
    _number("i64", 27, "<i8", write=False),
)
