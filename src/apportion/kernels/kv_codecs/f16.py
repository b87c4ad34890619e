"""The baseline: half precision."""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import Halves, KvCodec, no_scales, to_half


class F16(KvCodec):
    """f16 numbers, rounded to nearest."""

    number = 1
    lossless = True
    summary = "f16 numbers; the baseline"

    def row_nbytes(self, width: int) -> int:
        return 2 * width

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        return np.ascontiguousarray(to_half(x)).view(np.uint8), no_scales(len(x))

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        return np.ascontiguousarray(codes).view(np.float16)[:, :width].astype(np.float32)


CODEC = F16()
