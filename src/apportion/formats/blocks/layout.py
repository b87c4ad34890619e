"""The words that block formats are written in: blocks as records, packed codes, scales.

A format's layout is a NumPy record type whose fields lie as the file has them, little-endian, without gaps.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import LimitExceeded
from apportion.formats.block import Bytes, Floats

Records: TypeAlias = NDArray[np.void]


def records(blocks: Bytes, layout: np.dtype[np.void]) -> Records:
    """Blocks [n, block_nbytes] as records [n]; a view."""
    return np.ascontiguousarray(blocks).view(layout).reshape(len(blocks))


def record_bytes(values: Records) -> Bytes:
    """Records [n] as blocks [n, block_nbytes]; a view."""
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def column(field: NDArray[Any]) -> Floats:
    """A field of one number per record [n] -> [n, 1] float32, ready to multiply rows."""
    return field.astype(np.float32)[:, None]


def unpack(packed: Bytes, num_bits: int) -> Bytes:
    """Codes of `num_bits` bits in bytes [..., k] -> [..., 8 // num_bits, k]: the lowest bits of all bytes
    first, then the next higher ones.
    """
    mask = np.uint8((1 << num_bits) - 1)
    num_planes = 8 // num_bits
    codes = np.empty((*packed.shape[:-1], num_planes, packed.shape[-1]), np.uint8)
    for plane in range(num_planes):
        np.right_shift(packed, np.uint8(plane * num_bits), out=codes[..., plane, :])
        if plane < num_planes - 1:
            codes[..., plane, :] &= mask
    return codes


def interleave(packed: Bytes, num_bits: int) -> Bytes:
    """Codes of `num_bits` bits in bytes [n, k] -> [n, k * 8 // num_bits]: byte after byte, each from its
    lowest bits up.
    """
    return unpack(packed[:, :, None], num_bits).reshape(len(packed), -1)


def pack(codes: Bytes, num_bits: int) -> Bytes:
    """The inverse of `unpack`: codes [..., 8 // num_bits, k] -> bytes [..., k]."""
    packed = codes[..., 0, :].copy()
    for plane in range(1, 8 // num_bits):
        packed |= codes[..., plane, :] << np.uint8(plane * num_bits)
    return packed


def inverse(scale: Floats) -> Floats:
    """1 / scale, and 0 where that is not finite."""
    inverted = np.float32(1) / scale
    inverted[~np.isfinite(inverted)] = 0
    return inverted


def round_half_away(values: Floats) -> Floats:
    """To the nearest integer, ties away from zero (C's roundf; `np.rint` takes ties to even)."""
    magnitude = np.abs(values)
    floor = np.floor(magnitude)
    floor += magnitude - floor >= np.float32(0.5)
    return np.copysign(floor, values)


def farthest(values: Floats) -> Floats:
    """Each row's number of largest magnitude (the first of equals), with its sign: [n, 1]."""
    place = np.abs(values).argmax(axis=1, keepdims=True)
    return np.take_along_axis(values, place, axis=1)


def half_scale(scale: Floats, format_name: str) -> NDArray[np.float16]:
    """Scales as float16.

    Raises:
        LimitExceeded: a scale is too large for float16.
    """
    half = scale.astype(np.float16)
    if not np.isfinite(half).all():
        raise too_large(format_name, float(np.abs(scale).max()), float(np.finfo(np.float16).max))
    return half


def too_large(format_name: str, scale: float, limit: float) -> LimitExceeded:
    return LimitExceeded(
        f"cannot store numbers as {format_name}",
        "some are too large for its scale",
        "use f32 or bf16 for this tensor",
        scale=scale,
        limit=limit,
    )
