"""A scale and a choice of two to four levels: x = d * level, `d` an f16.

    tq1_0  | qs 48 | qh 4 | d 2 |     levels -1 0 1        256 numbers in 54 bytes, 1.6875 bits
    tq2_0  | qs 64 | d 2 |            levels -1 0 1 (2)    256 numbers in 66 bytes, 2.0625 bits
    q2_0   | d 2 | qs 16 |            levels -1 0 1 2      64 numbers in 18 bytes, 2.25 bits
    q1_0   | d 2 | qs 16 |            levels -1 1          128 numbers in 18 bytes, 1.125 bits

tq1_0 stores five levels a byte (qh: four), as digits of a fraction in base 3: number n of byte b is the first
digit after the point of 3^n * b / 256. Bytes 0-31 hold numbers 0-31, 32-63, .., 128-159; bytes 32-47 numbers
160-175, .., 224-239; the four of qh numbers 240-243, .., 252-255. tq2_0 stores two bits a number: bytes 0-31
hold numbers 0-31 in their lowest bits, .., 96-127 in their highest, and bytes 32-63 the rest. q2_0 and q1_0
store neighbours in one byte, the first in the lowest bits.
"""

from __future__ import annotations

import numpy as np

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks.layout import (
    column,
    half_scale,
    interleave,
    inverse,
    pack,
    record_bytes,
    records,
    round_half_away,
    unpack,
)

TQ1_0 = np.dtype([("qs", "u1", 48), ("qh", "u1", 4), ("d", "<f2")])
TQ2_0 = np.dtype([("qs", "u1", 64), ("d", "<f2")])
Q2_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
Q1_0 = np.dtype([("d", "<f2"), ("qs", "u1", 16)])

# A byte's five digits, the first one first: [5, 256].
_DIGITS = ((np.arange(256) * 3 ** np.arange(5)[:, None] & 255) * 3 >> 8).astype(np.uint8)
_RUNS = ((0, 32, 5), (32, 48, 5), (48, 52, 4))  # first byte, end, digits used: qs in two parts, then qh


def _levels(codes: Bytes, d: Floats) -> Floats:
    numbers = codes.astype(np.float32)
    numbers -= np.float32(1)
    numbers *= d
    return numbers


def codes_tq1_0(blocks: Bytes) -> Bytes:
    """Levels plus one, [n, 256]."""
    codes = np.empty((len(blocks), 256), np.uint8)
    end = 0
    for first, last, num_digits in _RUNS:
        for digit in range(num_digits):
            start, end = end, end + last - first
            codes[:, start:end] = _DIGITS[digit][blocks[:, first:last]]
    return codes


def codes_tq2_0(blocks: Bytes) -> Bytes:
    """Levels plus one, [n, 256]."""
    return unpack(records(blocks, TQ2_0)["qs"].reshape(-1, 2, 32), 2).reshape(-1, 256)


def codes_q2_0(blocks: Bytes) -> Bytes:
    """Levels plus one, [n, 64]."""
    return interleave(records(blocks, Q2_0)["qs"], 2)


def codes_q1_0(blocks: Bytes) -> Bytes:
    """Levels plus one, [n, 128]."""
    codes = interleave(records(blocks, Q1_0)["qs"], 1)
    codes <<= np.uint8(1)
    return codes


def decode_tq1_0(blocks: Bytes) -> Floats:
    return _levels(codes_tq1_0(blocks), column(records(blocks, TQ1_0)["d"]))


def decode_tq2_0(blocks: Bytes) -> Floats:
    return _levels(codes_tq2_0(blocks), column(records(blocks, TQ2_0)["d"]))


def decode_q2_0(blocks: Bytes) -> Floats:
    return _levels(codes_q2_0(blocks), column(records(blocks, Q2_0)["d"]))


def decode_q1_0(blocks: Bytes) -> Floats:
    return _levels(codes_q1_0(blocks), column(records(blocks, Q1_0)["d"]))


def _codes(values: Floats, scale: Floats, highest: int) -> Bytes:
    codes: Bytes = np.clip(round_half_away(values * inverse(scale)) + 1, 0, highest).astype(np.uint8)
    return codes


def _largest(values: Floats) -> Floats:
    largest: Floats = np.abs(values).max(axis=1, keepdims=True)
    return largest


def encode_tq1_0(values: Floats) -> Bytes:
    scale = _largest(values)
    codes = _codes(values, scale, 2)
    block = np.empty(len(values), TQ1_0)
    block["d"] = half_scale(scale, "tq1_0")[:, 0]
    blocks, end = record_bytes(block), 0
    for first, last, num_digits in _RUNS:
        fraction = np.zeros((len(values), last - first), np.uint16)
        for digit in range(num_digits):
            start, end = end, end + last - first
            fraction += codes[:, start:end] * np.uint16(3 ** (4 - digit))
        blocks[:, first:last] = (fraction * np.uint16(256) + np.uint16(242)) // np.uint16(243)
    return blocks


def encode_tq2_0(values: Floats) -> Bytes:
    scale = _largest(values)
    block = np.empty(len(values), TQ2_0)
    block["d"] = half_scale(scale, "tq2_0")[:, 0]
    block["qs"] = pack(_codes(values, scale, 2).reshape(-1, 2, 4, 32), 2).reshape(-1, 64)
    return record_bytes(block)


def encode_q2_0(values: Floats) -> Bytes:
    scale = _largest(values)
    block = np.empty(len(values), Q2_0)
    block["d"] = half_scale(scale, "q2_0")[:, 0]
    block["qs"] = pack(_codes(values, scale, 3).reshape(-1, 16, 4).swapaxes(1, 2), 2)
    return record_bytes(block)


def encode_q1_0(values: Floats) -> Bytes:
    """The scale is the mean magnitude, which is the nearest for given signs."""
    block = np.empty(len(values), Q1_0)
    block["d"] = half_scale(np.abs(values).mean(axis=1, keepdims=True), "q1_0")[:, 0]
    block["qs"] = np.packbits(values >= 0, axis=1, bitorder="little")
    return record_bytes(block)


FORMATS = (
    BlockFormat("tq1_0", 34, 256, TQ1_0.itemsize, decode_tq1_0, encode_tq1_0),
    BlockFormat("tq2_0", 35, 256, TQ2_0.itemsize, decode_tq2_0, encode_tq2_0),
    BlockFormat("q1_0", 41, 128, Q1_0.itemsize, decode_q1_0, encode_q1_0),
    BlockFormat("q2_0", 42, 64, Q2_0.itemsize, decode_q2_0, encode_q2_0),
)
