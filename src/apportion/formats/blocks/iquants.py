"""Formats whose codes index a codebook of points (read only), in super-blocks of 256 numbers.

A point gives 8 numbers (iq3: 4) at once; its index is spread over the fields named here. A scale s is for 32
numbers (iq2_xs, iq2_s, iq1_m: for 16), `d` is an f16.

    iq2_xxs | d 2 | 8 x (index 4, signs 4) |              x = d * (2 s + 1) / 8 * +-point     66 bytes, 2.0625
    iq2_xs  | d 2 | qs 64 | scales 8 |                    x = d * (2 s + 1) / 8 * +-point     74 bytes, 2.3125
    iq2_s   | d 2 | qs 32 | signs 32 | qh 8 | scales 8 |  x = d * (2 s + 1) / 8 * +-point     82 bytes, 2.5625
    iq3_xxs | d 2 | qs 64 | 8 x (signs 4) |               x = d * (2 s + 1) / 4 * +-point     98 bytes, 3.0625
    iq3_s   | d 2 | qs 64 | qh 8 | signs 32 | scales 4 |  x = d * (2 s + 1) * +-point        110 bytes, 3.4375
    iq1_s   | d 2 | qs 32 | qh 16 |                       x = d * (2 s + 1) * (point +- 1/8)  50 bytes, 1.5625
    iq1_m   | qs 32 | qh 16 | scales 8 |                  x = d * (2 s + 1) * (point +- 1/8)  56 bytes, 1.75

    iq2_xxs  four 8-bit indices; then 32 bits: four times 7 sign bits, and s in the highest four
    iq2_xs   16 bits each: 9 of index, 7 of signs; s of each 16 numbers in nibbles
    iq2_s    index: 8 bits in qs, 2 in qh; a sign bit for each number; s in nibbles
    iq3_xxs  8-bit indices; 32 bits as in iq2_xxs
    iq3_s    index: 8 bits in qs, 1 in qh; a sign bit for each number; s in nibbles
    iq1_s    index: 8 bits in qs, 3 in qh; qh has 16 bits for 32 numbers: four times 3 of index, s in bits
             12-14, the sign of the shift by 1/8 in bit 15
    iq1_m    index: 8 bits in qs, 3 in qh; qh has a nibble for 8 numbers: 3 bits of index, the shift's sign;
             scales: four 16-bit words of four s of 3 bits each, and in the highest bits a nibble of d, the
             lowest nibble first

Seven sign bits stand for eight: the eighth makes the number of minus signs even.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks import codebooks
from apportion.formats.blocks.codebooks import Codebook
from apportion.formats.blocks.layout import column, interleave, records

IQ2_XXS = np.dtype([("d", "<f2"), ("groups", [("index", "u1", 4), ("signs", "<u4")], 8)])
IQ2_XS = np.dtype([("d", "<f2"), ("qs", "<u2", 32), ("scales", "u1", 8)])
IQ2_S = np.dtype([("d", "<f2"), ("qs", "u1", 32), ("signs", "u1", 32), ("qh", "u1", 8), ("scales", "u1", 8)])
IQ3_XXS = np.dtype([("d", "<f2"), ("qs", "u1", 64), ("signs", "<u4", 8)])
IQ3_S = np.dtype([("d", "<f2"), ("qs", "u1", 64), ("qh", "u1", 8), ("signs", "u1", 32), ("scales", "u1", 4)])
IQ1_S = np.dtype([("d", "<f2"), ("qs", "u1", 32), ("qh", "<u2", 8)])
IQ1_M = np.dtype([("qs", "u1", 32), ("qh", "u1", 16), ("scales", "<u2", 4)])


@dataclass(frozen=True, slots=True)
class Parts:
    """What blocks are made of: x = d * (2 * scale + 1) * code, where d has taken up the format's fraction.

    Attributes:
        codes: [n, 256].
        d: [n, 1].
        scales: [n, 8 or 16], of 32 or 16 numbers each.
    """

    codes: NDArray[np.int8]
    d: Floats
    scales: NDArray[Any]

    def numbers(self) -> Floats:
        """The numbers [n, 256]; no product rounds."""
        num_groups = self.scales.shape[1]
        numbers = self.codes.reshape(-1, num_groups, 256 // num_groups).astype(np.float32)
        numbers *= (self.d * (2 * self.scales.astype(np.float32) + 1))[:, :, None]
        return numbers.reshape(-1, 256)


@cache
def _points(codebook: Codebook) -> NDArray[Any]:
    """A codebook's points: [num_points], each one integer of `length` bytes, a signed byte per coordinate."""
    num_levels = len(codebook.levels)
    members = np.frombuffer(base64.b85decode(codebook.members), np.uint8)
    codes = np.flatnonzero(np.unpackbits(members))
    digits = codes[:, None] // num_levels ** np.arange(codebook.length) % num_levels
    points = np.array(codebook.levels, np.int8)[digits]
    assert points.shape == (codebook.num_points, codebook.length)
    packed: NDArray[Any] = points.view(f"<u{codebook.length}")[:, 0]
    return packed


@cache
def _sign_masks() -> NDArray[np.uint64]:
    """For each 8 sign bits, the eight bytes that are -1 where the sign is minus, as one integer: [256]."""
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return (signs * np.uint8(255)).view("<u8")[:, 0]


@cache
def _even_signs() -> Bytes:
    """Seven sign bits -> eight, of which an even number is set: [128]."""
    seven = np.arange(128, dtype=np.uint8)
    odd = np.unpackbits(seven[:, None], axis=1).sum(axis=1) & 1
    eight: Bytes = seven | (odd << 7).astype(np.uint8)
    return eight


def _signed_points(codebook: Codebook, index: NDArray[Any], signs: Bytes) -> NDArray[np.int8]:
    """Points by index [n, 256 / length], with the signs [n, 32] of eight numbers each -> [n, 256]."""
    points: NDArray[np.int8] = _points(codebook)[index].view(np.int8)
    masks = _sign_masks()[signs].view(np.int8)
    points ^= masks
    points -= masks  # in two's complement, (x ^ -1) - -1 is -x
    return points


def _seven_signs(words: NDArray[np.uint32]) -> Bytes:
    """The four times 7 sign bits of each word, as eight bits: [n, 8] -> [n, 32]."""
    shifts = np.arange(0, 28, 7, dtype=np.uint32)
    signs: Bytes = _even_signs()[(words[:, :, None] >> shifts) & np.uint32(127)]
    return signs.reshape(len(words), 32)


def _with_high_bits(low: Bytes, high: NDArray[Any], num_bits: int) -> NDArray[np.uint16]:
    """Indices [n, k] of a low byte each and, in `high` [n, groups], `num_bits` more, lowest index first."""
    per_group = low.shape[1] // high.shape[1]
    shifts = np.arange(per_group, dtype=np.uint16) * np.uint16(num_bits)
    upper = high[:, :, None].astype(np.uint16) >> shifts & np.uint16((1 << num_bits) - 1)
    return low | (upper << np.uint16(8)).reshape(low.shape)


def parts_iq2_xxs(blocks: Bytes) -> Parts:
    block = records(blocks, IQ2_XXS)
    index, words = block["groups"]["index"].reshape(-1, 32), block["groups"]["signs"]
    points = _signed_points(codebooks.IQ2_XXS, index, _seven_signs(words))
    return Parts(points, column(block["d"]) / np.float32(8), words >> np.uint32(28))


def parts_iq2_xs(blocks: Bytes) -> Parts:
    block = records(blocks, IQ2_XS)
    signs = _even_signs()[block["qs"] >> np.uint16(9)]
    points = _signed_points(codebooks.IQ2_XS, block["qs"] & np.uint16(511), signs)
    return Parts(points, column(block["d"]) / np.float32(8), interleave(block["scales"], 4))


def parts_iq2_s(blocks: Bytes) -> Parts:
    block = records(blocks, IQ2_S)
    index = _with_high_bits(block["qs"], block["qh"], 2)
    points = _signed_points(codebooks.IQ2_S, index, block["signs"])
    return Parts(points, column(block["d"]) / np.float32(8), interleave(block["scales"], 4))


def parts_iq3_xxs(blocks: Bytes) -> Parts:
    block = records(blocks, IQ3_XXS)
    points = _signed_points(codebooks.IQ3_XXS, block["qs"], _seven_signs(block["signs"]))
    return Parts(points, column(block["d"]) / np.float32(4), block["signs"] >> np.uint32(28))


def parts_iq3_s(blocks: Bytes) -> Parts:
    block = records(blocks, IQ3_S)
    index = _with_high_bits(block["qs"], block["qh"], 1)
    points = _signed_points(codebooks.IQ3_S, index, block["signs"])
    return Parts(points, column(block["d"]), interleave(block["scales"], 4))


def _shifted_points(index: NDArray[np.uint16], minus: NDArray[np.bool_]) -> NDArray[np.int8]:
    """8 * (point +- 1/8) for indices [n, 32], with `minus` [n, 32 or 8] of 8 or 32 numbers each
    -> [n, 256].
    """
    points: NDArray[np.int8] = _points(codebooks.IQ1)[index].view(np.int8)
    points *= np.int8(8)
    shifts = np.where(minus, np.int8(-1), np.int8(1))
    shifted = points.reshape(*minus.shape, -1)
    shifted += shifts[:, :, None]
    return points


def parts_iq1_s(blocks: Bytes) -> Parts:
    block = records(blocks, IQ1_S)
    high = block["qh"]
    index = _with_high_bits(block["qs"], high & np.uint16(0xFFF), 3)
    points = _shifted_points(index, high >= 0x8000)
    return Parts(points, column(block["d"]) / np.float32(8), high >> np.uint16(12) & np.uint16(7))


def parts_iq1_m(blocks: Bytes) -> Parts:
    block = records(blocks, IQ1_M)
    words = block["scales"]
    nibbles = (words >> np.uint16(12)) << np.arange(0, 16, 4, dtype=np.uint16)
    d = np.bitwise_or.reduce(nibbles, axis=1).view(np.float16)
    scales = words[:, :, None] >> np.arange(0, 12, 3, dtype=np.uint16) & np.uint16(7)
    high = interleave(block["qh"], 4)
    index = _with_high_bits(block["qs"], high & np.uint8(7), 3)
    points = _shifted_points(index, high >= 8)
    return Parts(points, column(d) / np.float32(8), scales.reshape(-1, 16))


def _format(
    name: str, ggml_type: int, layout: np.dtype[np.void], parts: Callable[[Bytes], Parts]
) -> BlockFormat:
    def decode(blocks: Bytes) -> Floats:
        return parts(blocks).numbers()

    return BlockFormat(name, ggml_type, 256, layout.itemsize, decode)


FORMATS = (
    _format("iq2_xxs", 16, IQ2_XXS, parts_iq2_xxs),
    _format("iq2_xs", 17, IQ2_XS, parts_iq2_xs),
    _format("iq3_xxs", 18, IQ3_XXS, parts_iq3_xxs),
    _format("iq1_s", 19, IQ1_S, parts_iq1_s),
    _format("iq3_s", 21, IQ3_S, parts_iq3_s),
    _format("iq2_s", 22, IQ2_S, parts_iq2_s),
    _format("iq1_m", 29, IQ1_M, parts_iq1_m),
)
