"""Blocks of 32 numbers with one scale, the first formats of ggml: x = d * code, or x = d * code + m.

`d` and `m` are f16; `qs` holds the codes, in nibbles: byte j has number j below and number j + 16 above. `qh`
holds the codes' fifth bits, bit j for number j. A code's zero lies in the middle where there is no `m`.

    q8_0  | d 2 | qs 32: int8                  |     x = d * code                 34 bytes, 8.5 bits a number
    q8_1  | d 2 | s 2 | qs 32: int8            |     x = d * code                 36 bytes, 9.0
    q4_0  | d 2 | qs 16                        |     x = d * (code - 8)           18 bytes, 4.5
    q4_1  | d 2 | m 2 | qs 16                  |     x = d * code + m             20 bytes, 5.0
    q5_0  | d 2 | qh 4 | qs 16                 |     x = d * (code - 16)          22 bytes, 5.5
    q5_1  | d 2 | m 2 | qh 4 | qs 16           |     x = d * code + m             24 bytes, 6.0

q8_1's `s` is d times the sum of the codes; products use it, numbers do not depend on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks.layout import (
    Records,
    column,
    farthest,
    half_scale,
    inverse,
    pack,
    record_bytes,
    records,
    round_half_away,
    unpack,
)

Q8_0 = np.dtype([("d", "<f2"), ("qs", "i1", 32)])
Q8_1 = np.dtype([("d", "<f2"), ("s", "<f2"), ("qs", "i1", 32)])
Q4_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
Q4_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("qs", "u1", 16)])
Q5_0 = np.dtype([("d", "<f2"), ("qh", "u1", 4), ("qs", "u1", 16)])
Q5_1 = np.dtype([("d", "<f2"), ("m", "<f2"), ("qh", "u1", 4), ("qs", "u1", 16)])


def _codes4(block: Records) -> Bytes:
    return unpack(block["qs"], 4).reshape(len(block), 32)


def _codes5(block: Records) -> Bytes:
    fifth: Bytes = np.unpackbits(block["qh"], axis=-1, bitorder="little")
    fifth <<= np.uint8(4)
    fifth |= _codes4(block)
    return fifth


def _scaled(block: Records, codes: Bytes, zero: int) -> Floats:
    numbers = codes.astype(np.float32)
    numbers -= np.float32(zero)
    numbers *= column(block["d"])
    return numbers


def _scaled_and_shifted(block: Records, codes: Bytes) -> Floats:
    numbers = codes.astype(np.float32)
    numbers *= column(block["d"])
    numbers += column(block["m"])
    return numbers


def decode_q8_0(blocks: Bytes) -> Floats:
    block = records(blocks, Q8_0)
    return np.multiply(block["qs"].astype(np.float32), column(block["d"]))


def decode_q8_1(blocks: Bytes) -> Floats:
    block = records(blocks, Q8_1)
    return np.multiply(block["qs"].astype(np.float32), column(block["d"]))


def decode_q4_0(blocks: Bytes) -> Floats:
    block = records(blocks, Q4_0)
    return _scaled(block, _codes4(block), 8)


def decode_q4_1(blocks: Bytes) -> Floats:
    block = records(blocks, Q4_1)
    return _scaled_and_shifted(block, _codes4(block))


def decode_q5_0(blocks: Bytes) -> Floats:
    block = records(blocks, Q5_0)
    return _scaled(block, _codes5(block), 16)


def decode_q5_1(blocks: Bytes) -> Floats:
    block = records(blocks, Q5_1)
    return _scaled_and_shifted(block, _codes5(block))


def _truncated(codes: Floats, largest: int) -> Bytes:
    whole: Bytes = np.clip(codes, 0, largest).astype(np.uint8)
    return whole


def _symmetric_codes(values: Floats, scale: Floats, zero: int) -> Bytes:
    codes = values * inverse(scale)
    codes += np.float32(zero + 0.5)
    return _truncated(codes, 2 * zero - 1)


def _shifted_codes(values: Floats, scale: Floats, minimum: Floats, largest: int) -> Bytes:
    codes = (values - minimum) * inverse(scale)
    codes += np.float32(0.5)
    return _truncated(codes, largest)


def _pack4(codes: Bytes) -> Bytes:
    return pack((codes & np.uint8(15)).reshape(len(codes), 2, 16), 4)


def _pack_fifth(codes: Bytes) -> Bytes:
    packed: Bytes = np.packbits(codes >> np.uint8(4), axis=-1, bitorder="little")
    return packed


def _signed_bytes(values: Floats) -> tuple[Floats, Floats]:
    """Scale [n, 1] and codes [n, 32] of q8_0 and q8_1."""
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    return scale, round_half_away(values * inverse(scale))


def encode_q8_0(values: Floats) -> Bytes:
    scale, codes = _signed_bytes(values)
    block = np.empty(len(values), Q8_0)
    block["d"] = half_scale(scale, "q8_0")[:, 0]
    block["qs"] = codes
    return record_bytes(block)


def encode_q8_1(values: Floats) -> Bytes:
    scale, codes = _signed_bytes(values)
    block = np.empty(len(values), Q8_1)
    block["d"] = half_scale(scale, "q8_1")[:, 0]
    block["s"] = half_scale(codes.sum(axis=1, keepdims=True) * scale, "q8_1")[:, 0]
    block["qs"] = codes
    return record_bytes(block)


def blocks_q4_0(d: NDArray[np.float16], codes: Bytes) -> Bytes:
    """Blocks of scales [n] and codes [n, 32] with zero at 8."""
    block = np.empty(len(d), Q4_0)
    block["d"] = d
    block["qs"] = _pack4(codes)
    return record_bytes(block)


def encode_q4_0(values: Floats) -> Bytes:
    scale = farthest(values) / np.float32(-8)
    return blocks_q4_0(half_scale(scale, "q4_0")[:, 0], _symmetric_codes(values, scale, 8))


def encode_q5_0(values: Floats) -> Bytes:
    scale = farthest(values) / np.float32(-16)
    codes = _symmetric_codes(values, scale, 16)
    block = np.empty(len(values), Q5_0)
    block["d"] = half_scale(scale, "q5_0")[:, 0]
    block["qh"] = _pack_fifth(codes)
    block["qs"] = _pack4(codes)
    return record_bytes(block)


def _range(values: Floats, largest: int) -> tuple[Floats, Floats]:
    minimum = values.min(axis=1, keepdims=True)
    return (values.max(axis=1, keepdims=True) - minimum) / np.float32(largest), minimum


def encode_q4_1(values: Floats) -> Bytes:
    scale, minimum = _range(values, 15)
    block = np.empty(len(values), Q4_1)
    block["d"] = half_scale(scale, "q4_1")[:, 0]
    block["m"] = half_scale(minimum, "q4_1")[:, 0]
    block["qs"] = _pack4(_shifted_codes(values, scale, minimum, 15))
    return record_bytes(block)


def encode_q5_1(values: Floats) -> Bytes:
    scale, minimum = _range(values, 31)
    codes = _shifted_codes(values, scale, minimum, 31)
    block = np.empty(len(values), Q5_1)
    block["d"] = half_scale(scale, "q5_1")[:, 0]
    block["m"] = half_scale(minimum, "q5_1")[:, 0]
    block["qh"] = _pack_fifth(codes)
    block["qs"] = _pack4(codes)
    return record_bytes(block)


FORMATS = (
    BlockFormat("q4_0", 2, 32, Q4_0.itemsize, decode_q4_0, encode_q4_0, native=True),
    BlockFormat("q4_1", 3, 32, Q4_1.itemsize, decode_q4_1, encode_q4_1, native=True),
    BlockFormat("q5_0", 6, 32, Q5_0.itemsize, decode_q5_0, encode_q5_0, native=True),
    BlockFormat("q5_1", 7, 32, Q5_1.itemsize, decode_q5_1, encode_q5_1, native=True),
    BlockFormat("q8_0", 8, 32, Q8_0.itemsize, decode_q8_0, encode_q8_0, native=True),
    BlockFormat("q8_1", 9, 32, Q8_1.itemsize, decode_q8_1, encode_q8_1),
)
