"""Keys and values as they are computed: for tests, and to judge the other codecs by."""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import Halves, KvCodec, no_scales


class F32(KvCodec):
    """f32 numbers."""

    number = 0
    lossless = True
    summary = "f32 numbers, as they are computed"

    def row_nbytes(self, width: int) -> int:
        return 4 * width

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        return np.ascontiguousarray(x, np.float32).view(np.uint8), no_scales(len(x))

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        return np.ascontiguousarray(codes).view(np.float32)[:, :width]


CODEC = F32()
