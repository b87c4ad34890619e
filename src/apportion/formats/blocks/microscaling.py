"""Four-bit floating-point codes with a small floating-point scale for a few numbers.

    mxfp4  | e 1 | qs 16 |       x = 2^(e - 127) * code      32 numbers in 17 bytes, 4.25 bits
    nvfp4  | d 4 | qs 32 |       x = d * code                64 numbers in 36 bytes, 4.5 bits

A code (E2M1) is a sign and one of 0, 1/2, 1, 3/2, 2, 3, 4, 6. mxfp4's scale is a power of two (E8M0). nvfp4
has a scale for each 16 numbers: an exponent of four bits and a fraction of three (E4M3; the sign bit is
ignored, 0x7f means 0). Of each 32 numbers (nvfp4: 16), byte j has number j in the low nibble and number
j + 16 (nvfp4: j + 8) in the high one. A code of minus zero is read as zero.

In a model with nvfp4 tensors, a further tensor of the name `<name>.scale` may hold a factor for the whole.
"""

from __future__ import annotations

import numpy as np

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks.layout import pack, record_bytes, records, too_large, unpack

MXFP4 = np.dtype([("e", "u1"), ("qs", "u1", 16)])
NVFP4 = np.dtype([("d", "u1", 4), ("qs", "u1", 32)])

_MAGNITUDES = np.array((0, 0.5, 1, 1.5, 2, 3, 4, 6), np.float32)
_MIDDLES = (_MAGNITUDES[1:] + _MAGNITUDES[:-1]) / 2
# Codes and scales are doubled and halved: the smallest and the largest mxfp4 blocks then decode as in ggml.
_DOUBLED = np.concatenate((_MAGNITUDES, np.float32(0) - _MAGNITUDES)) * np.float32(2)
_HALF_E8M0 = np.ldexp(np.float32(1), np.arange(256) - 128)


def _half_e4m3() -> Floats:
    byte = np.arange(256)
    exponent, fraction = byte >> 3 & 15, byte & 7
    normal = np.ldexp(np.float32(8) + fraction.astype(np.float32), exponent - 11)
    scales = np.where(exponent == 0, np.ldexp(fraction.astype(np.float32), -10), normal)
    scales[0x7F] = 0
    return scales.astype(np.float32)


_HALF_E4M3 = _half_e4m3()


def decode_mxfp4(blocks: Bytes) -> Floats:
    block = records(blocks, MXFP4)
    numbers = _DOUBLED[unpack(block["qs"], 4)].reshape(-1, 32)
    numbers *= _HALF_E8M0[block["e"]][:, None]
    return numbers


def decode_nvfp4(blocks: Bytes) -> Floats:
    block = records(blocks, NVFP4)
    numbers = _DOUBLED[unpack(block["qs"].reshape(-1, 4, 8), 4)].reshape(-1, 4, 16)
    numbers *= _HALF_E4M3[block["d"]][:, :, None]
    return numbers.reshape(-1, 64)


def _codes(values: Floats, scale: Floats) -> Bytes:
    """The nearest codes of groups [g, k] with scales [g, 1]; ties go to the smaller magnitude."""
    magnitude = np.abs(values)
    codes = np.zeros(values.shape, np.uint8)
    for middle in _MIDDLES:
        codes += magnitude > middle * scale
    codes[np.broadcast_to(scale == 0, values.shape)] = 0
    return codes | ((values < 0) & (codes > 0)).astype(np.uint8) << np.uint8(3)


def encode_mxfp4(values: Floats) -> Bytes:
    """The scale puts the largest magnitude between 4 and 8 (above 6 it is cut to 6), as the OCP specification
    of the format has it.
    """
    largest = np.abs(values).max(axis=1, keepdims=True)
    exponent = np.where(largest > 0, np.frexp(largest)[1] - 3 + 127, 0).clip(0, 254)
    block = np.empty(len(values), MXFP4)
    block["e"] = exponent[:, 0]
    scale = _HALF_E8M0[block["e"]][:, None] * np.float32(2)
    block["qs"] = pack(_codes(values, scale).reshape(-1, 2, 16), 4)
    return record_bytes(block)


def encode_nvfp4(values: Floats) -> Bytes:
    """The scale that is nearest to a sixth of the largest magnitude.

    Raises:
        LimitExceeded: a magnitude is above 6 times the largest scale, 448.
    """
    groups = values.reshape(-1, 16)
    wanted = np.abs(groups).max(axis=1, keepdims=True) / np.float32(6)
    scales = _HALF_E4M3[:0x7F] * np.float32(2)
    if (wanted > scales[-1]).any():
        raise too_large("nvfp4", float(wanted.max()), float(scales[-1]))
    place = np.searchsorted((scales[1:] + scales[:-1]) / 2, wanted)
    block = np.empty(len(values), NVFP4)
    block["d"] = place.reshape(-1, 4)
    codes = _codes(groups, scales[place])
    block["qs"] = pack(codes.reshape(-1, 4, 2, 8), 4).reshape(-1, 32)
    return record_bytes(block)


FORMATS = (
    BlockFormat("mxfp4", 39, 32, MXFP4.itemsize, decode_mxfp4, encode_mxfp4, native=True),
    BlockFormat("nvfp4", 40, 64, NVFP4.itemsize, decode_nvfp4, encode_nvfp4),
)
