"""Super-blocks of 256 numbers: a 16-bit scale for all, small scales for groups of 16 or 32, and codes.

    q2_k  | scales 16 | qs 64 | d 2 | dmin 2 |            x = d * s * code - dmin * m     84 bytes, 2.625 bits
    q3_k  | hmask 32 | qs 64 | scales 12 | d 2 |          x = d * (s - 32) * (code - 4)  110 bytes, 3.4375
    q4_k  | d 2 | dmin 2 | scales 12 | qs 128 |           x = d * s * code - dmin * m    144 bytes, 4.5
    q5_k  | d 2 | dmin 2 | scales 12 | qh 32 | qs 128 |   x = d * s * code - dmin * m    176 bytes, 5.5
    q6_k  | ql 128 | qh 64 | scales 16 | d 2 |            x = d * s * (code - 32)        210 bytes, 6.5625
    q8_k  | d 4 | qs 256 | bsums 32 |                     x = d * code                   292 bytes, 9.125

`d` and `dmin` are f16 (q8_k: f32). Groups have 16 numbers in q2_k, q3_k and q6_k, and 32 in q4_k and q5_k.

Codes lie in planes: 32 neighbouring bytes hold, in their lowest bits, the codes of 32 neighbouring numbers,
in the next bits those of the 32 after them, and so on.

    2 bits (qs of q2_k and q3_k, qh of q6_k)   bytes 0-31: numbers 0-31, 32-63, 64-95, 96-127; 32-63: the rest
    4 bits (qs of q4_k and q5_k)               bytes 0-31: numbers 0-31, 32-63; then 64-95, 96-127; ...
    4 bits (ql of q6_k)                        bytes 0-63: numbers 0-63, 64-127; 64-127: the rest
    1 bit  (hmask, qh of q5_k)                 bit b of byte j: number 32 * b + j

Scales:

    q2_k  byte g: s of group g in the low nibble, m in the high one
    q3_k  bytes 0-7: low four bits of s, groups 0-7 in the low nibbles, 8-15 in the high ones;
          bytes 8-11: upper two bits, groups 0-3 lowest, then 4-7, 8-11, 12-15
    q4_k, q5_k  bytes 0-3: s of groups 0-3, bytes 4-7: m of groups 0-3, six bits each;
          bytes 8-11: low four bits of groups 4-7, s in the low nibble, m in the high one;
          their upper two bits are bits 6-7 of bytes 0-3 (s) and 4-7 (m)
    q6_k  int8 each

q8_k's `bsums` are sums of 16 codes each; products use them, numbers do not depend on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks.fit import fit_scale, fit_scale_and_offset, integers, share_scale
from apportion.formats.blocks.layout import (
    Records,
    column,
    farthest,
    inverse,
    pack,
    record_bytes,
    records,
    unpack,
)

Q2_K = np.dtype([("scales", "u1", 16), ("qs", "u1", 64), ("d", "<f2"), ("dmin", "<f2")])
Q3_K = np.dtype([("hmask", "u1", 32), ("qs", "u1", 64), ("scales", "u1", 12), ("d", "<f2")])
Q4_K = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qs", "u1", 128)])
Q5_K = np.dtype([("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", 12), ("qh", "u1", 32), ("qs", "u1", 128)])
Q6_K = np.dtype([("ql", "u1", 128), ("qh", "u1", 64), ("scales", "i1", 16), ("d", "<f2")])
Q8_K = np.dtype([("d", "<f4"), ("qs", "i1", 256), ("bsums", "<i2", 16)])


def _grouped(codes: Bytes, num_groups: int) -> Floats:
    return codes.reshape(len(codes), num_groups, 256 // num_groups).astype(np.float32)


def _scaled(numbers: Floats, scales: Floats) -> Floats:
    """Group numbers [n, groups, k] times scales [n, groups] -> [n, 256]."""
    numbers *= scales[:, :, None]
    return numbers.reshape(len(numbers), 256)


def _scaled_and_lowered(codes: Floats, block: Records, scales: Bytes, offsets: Bytes) -> Floats:
    codes *= (column(block["d"]) * scales)[:, :, None]
    codes -= (column(block["dmin"]) * offsets)[:, :, None]
    return codes.reshape(len(codes), 256)


def _planes(packed: Bytes, num_bits: int, run: int) -> Bytes:
    """Codes [n, 256] of bytes [n, k] whose planes are `run` bytes wide."""
    return unpack(packed.reshape(len(packed), -1, run), num_bits).reshape(len(packed), 256)


def _pack_planes(codes: Bytes, num_bits: int, run: int) -> Bytes:
    """The inverse of `_planes`; bits above `num_bits` are left out."""
    low = codes & np.uint8((1 << num_bits) - 1)
    return pack(low.reshape(len(codes), -1, 8 // num_bits, run), num_bits).reshape(len(codes), -1)


def decode_q2_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q2_K)
    scales, offsets = block["scales"] & np.uint8(15), block["scales"] >> np.uint8(4)
    return _scaled_and_lowered(_grouped(_planes(block["qs"], 2, 32), 16), block, scales, offsets)


def _scales_q3_k(packed: Bytes) -> Floats:
    low = unpack(packed[:, :8], 4).reshape(len(packed), 16)
    high = unpack(packed[:, 8:], 2).reshape(len(packed), 16)
    return (low | high << np.uint8(4)).astype(np.float32) - np.float32(32)


def decode_q3_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q3_K)
    codes = unpack(block["hmask"], 1).reshape(len(block), 256)
    codes <<= np.uint8(2)
    codes |= _planes(block["qs"], 2, 32)
    numbers = _grouped(codes, 16)
    numbers -= np.float32(4)
    return _scaled(numbers, column(block["d"]) * _scales_q3_k(block["scales"]))


def _scales_q4_k(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The s and m [n, 8] of q4_k and q5_k."""
    first, second, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    upper = np.uint8(0x30)
    scales = (first & np.uint8(63), rest & np.uint8(15) | first >> np.uint8(2) & upper)
    offsets = (second & np.uint8(63), rest >> np.uint8(4) | second >> np.uint8(2) & upper)
    return np.concatenate(scales, axis=1), np.concatenate(offsets, axis=1)


def _pack_scales_q4_k(scales: Bytes, offsets: Bytes) -> Bytes:
    upper = np.uint8(0xC0)
    first = scales[:, :4] | scales[:, 4:] << np.uint8(2) & upper
    second = offsets[:, :4] | offsets[:, 4:] << np.uint8(2) & upper
    rest = scales[:, 4:] & np.uint8(15) | offsets[:, 4:] << np.uint8(4)
    return np.concatenate((first, second, rest), axis=1)


def decode_q4_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q4_K)
    return _scaled_and_lowered(
        _grouped(_planes(block["qs"], 4, 32), 8), block, *_scales_q4_k(block["scales"])
    )


def decode_q5_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q5_K)
    codes = unpack(block["qh"], 1).reshape(len(block), 256)
    codes <<= np.uint8(4)
    codes |= _planes(block["qs"], 4, 32)
    return _scaled_and_lowered(_grouped(codes, 8), block, *_scales_q4_k(block["scales"]))


def decode_q6_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q6_K)
    codes = _planes(block["qh"], 2, 32)
    codes <<= np.uint8(4)
    codes |= _planes(block["ql"], 4, 64)
    numbers = _grouped(codes, 16)
    numbers -= np.float32(32)
    return _scaled(numbers, column(block["d"]) * block["scales"])


def decode_q8_k(blocks: Bytes) -> Floats:
    block = records(blocks, Q8_K)
    numbers: Floats = block["qs"].astype(np.float32)
    numbers *= column(block["d"])
    return numbers


def _encode_lowered(
    values: Floats, block: Records, num_groups: int, code_bits: int, scale_bits: int
) -> tuple[Bytes, Bytes, Bytes]:
    """Set d and dmin of `block`; codes [n, 256], group scales and offsets [n, groups]."""
    name = f"q{code_bits}_k"
    groups = values.reshape(-1, 256 // num_groups)
    scale, offset = fit_scale_and_offset(groups, (1 << code_bits) - 1)
    largest = (1 << scale_bits) - 1
    block["d"], scales = share_scale(scale.reshape(-1, num_groups), 0, largest, name)
    block["dmin"], offsets = share_scale(offset.reshape(-1, num_groups), 0, largest, name)
    step = (column(block["d"]) * scales).reshape(-1, 1)
    low = (column(block["dmin"]) * offsets).reshape(-1, 1)
    codes = integers(0, (1 << code_bits) - 1)((groups + low) * inverse(step))
    return codes.astype(np.uint8).reshape(-1, 256), scales.astype(np.uint8), offsets.astype(np.uint8)


def blocks_q2_k(
    d: NDArray[np.float16], dmin: NDArray[np.float16], scales: Bytes | np.uint8, codes: Bytes
) -> Bytes:
    """Blocks of d and dmin [n], scale bytes [n, 16] (or one for all) and codes [n, 256] of 0..3."""
    block = np.empty(len(d), Q2_K)
    block["d"], block["dmin"], block["scales"] = d, dmin, scales
    block["qs"] = _pack_planes(codes, 2, 32)
    return record_bytes(block)


def encode_q2_k(values: Floats) -> Bytes:
    block = np.empty(len(values), Q2_K)
    codes, scales, offsets = _encode_lowered(values, block, 16, 2, 4)
    return blocks_q2_k(block["d"], block["dmin"], scales | offsets << np.uint8(4), codes)


def encode_q4_k(values: Floats) -> Bytes:
    block = np.empty(len(values), Q4_K)
    codes, scales, offsets = _encode_lowered(values, block, 8, 4, 6)
    block["scales"] = _pack_scales_q4_k(scales, offsets)
    block["qs"] = _pack_planes(codes, 4, 32)
    return record_bytes(block)


def encode_q5_k(values: Floats) -> Bytes:
    block = np.empty(len(values), Q5_K)
    codes, scales, offsets = _encode_lowered(values, block, 8, 5, 6)
    block["scales"] = _pack_scales_q4_k(scales, offsets)
    block["qh"] = _pack_planes(codes >> np.uint8(4), 1, 32)
    block["qs"] = _pack_planes(codes, 4, 32)
    return record_bytes(block)


def _encode_centred(
    values: Floats, block: Records, reach: int, scale_reach: int, name: str
) -> tuple[Bytes, Floats]:
    """Set d of `block`; codes [n, 256] with zero at `reach`, and group scales [n, 16]."""
    groups = values.reshape(-1, 16)
    to_codes = integers(-reach, reach - 1)
    scale = fit_scale(groups, to_codes, np.linspace(-reach - 1, -reach + 1, 11).tolist())
    block["d"], scales = share_scale(scale.reshape(-1, 16), -scale_reach, scale_reach - 1, name)
    step = (column(block["d"]) * scales).reshape(-1, 1)
    codes = to_codes(groups * inverse(step)) + np.float32(reach)
    return codes.astype(np.uint8).reshape(-1, 256), scales


def encode_q3_k(values: Floats) -> Bytes:
    block = np.empty(len(values), Q3_K)
    codes, scales = _encode_centred(values, block, 4, 32, "q3_k")
    raised = (scales + np.float32(32)).astype(np.uint8)
    low = pack((raised & np.uint8(15)).reshape(-1, 2, 8), 4)
    high = pack((raised >> np.uint8(4)).reshape(-1, 4, 4), 2)
    block["scales"] = np.concatenate((low, high), axis=1)
    block["hmask"] = _pack_planes(codes >> np.uint8(2), 1, 32)
    block["qs"] = _pack_planes(codes, 2, 32)
    return record_bytes(block)


def blocks_q6_k(d: NDArray[np.float16], scales: NDArray[np.int8], codes: Bytes) -> Bytes:
    """Blocks of d [n], group scales [n, 16] and codes [n, 256] with zero at 32."""
    block = np.empty(len(d), Q6_K)
    block["d"], block["scales"] = d, scales
    block["ql"] = _pack_planes(codes, 4, 64)
    block["qh"] = _pack_planes(codes >> np.uint8(4), 2, 32)
    return record_bytes(block)


def encode_q6_k(values: Floats) -> Bytes:
    block = np.empty(len(values), Q6_K)
    codes, scales = _encode_centred(values, block, 32, 128, "q6_k")
    return blocks_q6_k(block["d"], scales.astype(np.int8), codes)


def encode_q8_k(values: Floats) -> Bytes:
    scale = farthest(values) / np.float32(-127)
    codes = integers(-127, 127)(values * inverse(scale))
    block = np.empty(len(values), Q8_K)
    block["d"] = scale[:, 0]
    block["qs"] = codes
    block["bsums"] = codes.reshape(-1, 16, 16).sum(axis=2)
    return record_bytes(block)


FORMATS = (
    BlockFormat("q2_k", 10, 256, Q2_K.itemsize, decode_q2_k, encode_q2_k, native=True),
    BlockFormat("q3_k", 11, 256, Q3_K.itemsize, decode_q3_k, encode_q3_k, native=True),
    BlockFormat("q4_k", 12, 256, Q4_K.itemsize, decode_q4_k, encode_q4_k, native=True),
    BlockFormat("q5_k", 13, 256, Q5_K.itemsize, decode_q5_k, encode_q5_k, native=True),
    BlockFormat("q6_k", 14, 256, Q6_K.itemsize, decode_q6_k, encode_q6_k, native=True),
    BlockFormat("q8_k", 15, 256, Q8_K.itemsize, decode_q8_k, encode_q8_k),
)
