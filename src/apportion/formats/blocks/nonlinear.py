"""Four-bit codes that index sixteen unevenly spaced levels, denser near zero.

    iq4_nl  | d 2 | qs 16 |                                   x = d * level             18 bytes, 4.5 bits
    iq4_xs  | d 2 | scales_h 2 | scales_l 4 | qs 128 |        x = d * (s - 32) * level  136 bytes, 4.25

iq4_nl has blocks of 32 numbers, iq4_xs super-blocks of 256 with a scale s for each 32. Of 16 bytes of `qs`,
byte j has number j in the low nibble and number j + 16 in the high one. The six bits of s: the low four in
the nibbles of `scales_l`, groups 0 and 1 in byte 0 and so on; the upper two in the bits of `scales_h`, group
0 lowest. `d` is f16.
"""

from __future__ import annotations

import numpy as np

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks.fit import fit_scale, share_scale
from apportion.formats.blocks.layout import (
    column,
    half_scale,
    interleave,
    inverse,
    pack,
    record_bytes,
    records,
    unpack,
)

IQ4_NL = np.dtype([("d", "<f2"), ("qs", "u1", 16)])
IQ4_XS = np.dtype([("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", 4), ("qs", "u1", 128)])

LEVELS = np.array(
    (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), np.float32
)  # source: ggml, `kvalues_iq4nl`
_MIDDLES = (LEVELS[1:] + LEVELS[:-1]) / 2
_NEAREST = np.searchsorted(_MIDDLES, np.arange(-128, 128, 0.5) + 0.25).astype(np.uint8)  # by steps of 1/2
_TARGETS = (*range(-135, -118, 4), *range(105, 122, 4))  # where a group's farthest number is tried
_WORD_SHIFTS = np.arange(0, 16, 2, dtype=np.uint16)


def _decode_levels(packed: Bytes) -> Floats:
    """Nibbles [n, 16 g] -> levels [n, g, 32]."""
    codes = unpack(packed.reshape(len(packed), -1, 16), 4)
    return LEVELS[codes].reshape(len(packed), -1, 32)


def decode_iq4_nl(blocks: Bytes) -> Floats:
    block = records(blocks, IQ4_NL)
    levels = _decode_levels(block["qs"])[:, 0]
    levels *= column(block["d"])
    return levels


def decode_iq4_xs(blocks: Bytes) -> Floats:
    block = records(blocks, IQ4_XS)
    upper = (block["scales_h"][:, None] >> _WORD_SHIFTS & np.uint16(3)) << np.uint16(4)
    scales = (interleave(block["scales_l"], 4) | upper).astype(np.float32) - np.float32(32)
    levels = _decode_levels(block["qs"])
    levels *= (column(block["d"]) * scales)[:, :, None]
    return levels.reshape(-1, 256)


def _codes(scaled: Floats) -> Bytes:
    """The index of the nearest level."""
    steps = np.floor(scaled * np.float32(2)).clip(-256, 255).astype(np.int16)
    codes: Bytes = _NEAREST[steps + np.int16(256)]
    return codes


def _nearest_levels(scaled: Floats) -> Floats:
    return LEVELS[_codes(scaled)]


def _pack_codes(codes: Bytes) -> Bytes:
    """Codes [32 numbers each] -> bytes [.., 16]."""
    return pack(codes.reshape(-1, 2, 16), 4)


def encode_iq4_nl(values: Floats) -> Bytes:
    block = np.empty(len(values), IQ4_NL)
    block["d"] = half_scale(fit_scale(values, _nearest_levels, _TARGETS), "iq4_nl")[:, 0]
    block["qs"] = _pack_codes(_codes(values * inverse(column(block["d"]))))
    return record_bytes(block)


def encode_iq4_xs(values: Floats) -> Bytes:
    groups = values.reshape(-1, 32)
    block = np.empty(len(values), IQ4_XS)
    fitted = fit_scale(groups, _nearest_levels, _TARGETS).reshape(-1, 8)
    block["d"], scales = share_scale(fitted, -32, 31, "iq4_xs")
    raised = (scales + np.float32(32)).astype(np.uint16)
    block["scales_l"] = pack((raised & np.uint16(15)).astype(np.uint8).reshape(-1, 4, 2).swapaxes(1, 2), 4)
    block["scales_h"] = np.bitwise_or.reduce(raised >> np.uint16(4) << _WORD_SHIFTS, axis=1)
    step = (column(block["d"]) * scales).reshape(-1, 1)
    block["qs"] = _pack_codes(_codes(groups * inverse(step))).reshape(-1, 128)
    return record_bytes(block)


FORMATS = (
    BlockFormat("iq4_nl", 20, 32, IQ4_NL.itemsize, decode_iq4_nl, encode_iq4_nl, native=True),
    BlockFormat("iq4_xs", 23, 256, IQ4_XS.itemsize, decode_iq4_xs, encode_iq4_xs, native=True),
)
