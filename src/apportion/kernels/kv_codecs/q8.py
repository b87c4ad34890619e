"""8 bits for each number, a scale for each token and head."""

from __future__ import annotations

import numpy as np

from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv_codec import Halves, KvCodec, inverse, to_half

MOST = np.float32(127)


class Q8(KvCodec):
    """Codes from -127 to 127, multiples of the rounded scale."""

    number = 3
    num_scales = 1
    summary = "8-bit codes, an f16 scale per token and head"

    def row_nbytes(self, width: int) -> int:
        return width

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        # Infinity by infinity and the like: the scale says that the row holds no numbers.
        with np.errstate(invalid="ignore"):
            largest = np.abs(x).max(axis=1)
            scales = to_half(np.where(np.isfinite(largest), largest / MOST, np.float32(np.nan)))
            codes = np.clip(np.rint(x * inverse(scales.astype(np.float32))[:, None]), -MOST, MOST)
            return np.nan_to_num(codes).astype(np.int8).view(np.uint8), scales[None]

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        numbers = codes.view(np.int8)[:, :width].astype(np.float32)
        with np.errstate(invalid="ignore"):
            return np.asarray(numbers * scales[0].astype(np.float32)[:, None])


CODEC = Q8()
