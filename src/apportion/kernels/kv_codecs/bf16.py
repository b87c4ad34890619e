"""bfloat16: the range of f32 in 16 bits, for models whose keys outgrow half precision."""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import Halves, KvCodec, no_scales

QUIET = np.uint32(0x00400000)


class Bf16(KvCodec):
    """The upper half of f32 numbers, rounded to nearest, ties to even."""

    number = 2
    summary = "bf16 numbers: the range of f32, 8 significant bits"

    def row_nbytes(self, width: int) -> int:
        return 2 * width

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        odd = bits >> np.uint32(16) & np.uint32(1)
        rounded = np.where(np.isnan(x), bits | QUIET, bits + np.uint32(0x7FFF) + odd)
        return (rounded >> np.uint32(16)).astype(np.uint16).view(np.uint8), no_scales(len(x))

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        words = np.ascontiguousarray(codes).view(np.uint16)[:, :width]
        return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


CODEC = Bf16()
