"""4 bits for each number, a scale and an offset for each token and head; sinks and the recent window in f16.

QServe (https://arxiv.org/abs/2405.04532): asymmetric 4-bit codes, dynamic scales inside the page. SKVQ
(https://arxiv.org/abs/2405.06219): the first tokens and the last ones stay as they are.
"""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import Halves, KvCodec, inverse, to_half

MOST = np.float32(15)
GROUP = 16  # numbers in 8 bytes: 0 .. 7 are the lower halves of the bytes, 8 .. 15 the upper ones


class Q4(KvCodec):
    """Codes from 0 to 15: multiples of the rounded scale, counted from the rounded smallest number."""

    number = 4
    num_scales = 2
    hot = "f16"
    summary = (
        "4-bit codes, an f16 scale and offset per token and head; the first 32 and last 128 positions f16"
    )
    source = "https://arxiv.org/abs/2405.04532"

    def row_nbytes(self, width: int) -> int:
        return -(-width // GROUP) * GROUP // 2

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        # Infinity less infinity and the like: the scale says that the row holds no numbers.
        with np.errstate(invalid="ignore", over="ignore"):
            offsets = to_half(x.min(axis=1) + np.float32(0))  # never minus zero
            least = offsets.astype(np.float32)
            span = (x.max(axis=1) - least) / MOST
            scales = to_half(np.where(np.isfinite(span), np.maximum(span, 0), np.float32(np.nan)))
            offsets = np.where(np.isfinite(span), offsets, np.float16(0))
            steps = (x - least[:, None]) * inverse(scales.astype(np.float32))[:, None]
            codes = np.nan_to_num(np.clip(np.rint(steps), 0, MOST)).astype(np.uint8)
        return packed(codes), np.stack([scales, offsets])

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        scale, offset = scales.astype(np.float32)[:, :, None]
        with np.errstate(invalid="ignore"):
            return np.asarray(unpacked(codes)[:, :width].astype(np.float32) * scale + offset)


def packed(codes: Bytes) -> Bytes:
    """Codes [n, W] below 16 -> [n, row_nbytes]; what fills up the last group is 0."""
    num_rows, width = codes.shape
    groups = np.zeros((num_rows, -(-width // GROUP), 2, GROUP // 2), np.uint8)
    groups.reshape(num_rows, -1)[:, :width] = codes
    both: Bytes = groups[:, :, 0] | groups[:, :, 1] << 4
    return both.reshape(num_rows, -1)


def unpacked(codes: Bytes) -> Bytes:
    """[n, row_nbytes] -> codes [n, whole groups]."""
    halves = codes.reshape(len(codes), -1, 1, GROUP // 2)
    return np.concatenate([halves & 15, halves >> 4], axis=2).reshape(len(codes), -1)


CODEC = Q4()
