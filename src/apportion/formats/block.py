"""Block formats: how numbers are stored, by name and by ggml type number.

A block format stores `block_size` consecutive numbers of a row in `block_nbytes` bytes. A row of a tensor is
a whole number of blocks, and rows lie one after the other. Each format carries its exact NumPy reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import NotFinite

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]

CHUNK_NUMBERS = 1 << 16  # decoded at a time: temporaries stay in the cache, and under a few MiB


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """One way to store numbers.

    Attributes:
        name: as users type it, e.g. `q4_0`.
        ggml_type: the type number in GGUF files.
        block_size: numbers per block.
        block_nbytes: bytes per block.
        decode: blocks [n, block_nbytes] uint8 -> numbers [n, block_size] float32, exactly.
        encode: numbers [n, block_size] float32 -> blocks [n, block_nbytes] uint8, round to nearest; None when
            we only read the format.
        native: whether the kernels compute on it; other formats are decoded while loading.
    """

    name: str
    ggml_type: int
    block_size: int
    block_nbytes: int
    decode: Callable[[Bytes], Floats]
    encode: Callable[[Floats], Bytes] | None = None
    native: bool = False

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.block_nbytes / self.block_size

    def row_nbytes(self, num_cols: int) -> int:
        """Bytes of a row of `num_cols` numbers; `num_cols` must be a multiple of `block_size`."""
        assert num_cols % self.block_size == 0, (self.name, num_cols)
        return num_cols // self.block_size * self.block_nbytes

    def num_cols(self, row_nbytes: int) -> int:
        """Numbers in a row of `row_nbytes` bytes; `row_nbytes` must be a multiple of `block_nbytes`."""
        assert row_nbytes % self.block_nbytes == 0, (self.name, row_nbytes)
        return row_nbytes // self.block_nbytes * self.block_size

    def dequantize(self, data: Bytes) -> Floats:
        """Rows [..., row_nbytes] uint8 -> [..., cols] float32."""
        out = np.empty((*data.shape[:-1], self.num_cols(data.shape[-1])), np.float32)
        self.dequantize_into(data, out)
        return out

    def dequantize_into(self, data: Bytes, out: Floats | NDArray[np.float16]) -> None:
        """Rows [..., row_nbytes] uint8 into `out` [..., cols], C-contiguous, float32 or (rounded) float16.

        Works through the blocks in chunks, so that beside C-contiguous `data` and `out` it takes a few MiB.
        """
        assert out.flags.c_contiguous, "out must be C-contiguous"
        blocks = np.ascontiguousarray(data).reshape(data.size // self.block_nbytes, self.block_nbytes)
        numbers = out.reshape(len(blocks), self.block_size)
        step = max(1, CHUNK_NUMBERS // self.block_size)
        with np.errstate(all="ignore"):  # blocks of a file may hold any bits; inf and NaN decode as such
            for start in range(0, len(blocks), step):
                numbers[start : start + step] = self.decode(blocks[start : start + step])

    def quantize(self, values: Floats) -> Bytes:
        """Rows [..., cols] float32 -> [..., row_nbytes] uint8.

        Raises:
            NotFinite: a value is infinite or not a number, and the format has no code for that.
            LimitExceeded: a value is too large for the format's scale.
        """
        assert self.encode is not None, f"{self.name} is read-only"
        numbers = np.ascontiguousarray(values, dtype=np.float32)
        blocks = numbers.reshape(numbers.size // self.block_size, self.block_size)
        out = np.empty((*values.shape[:-1], self.row_nbytes(values.shape[-1])), np.uint8)
        encoded = out.reshape(len(blocks), self.block_nbytes)
        step = max(1, CHUNK_NUMBERS // self.block_size)
        with np.errstate(all="ignore"):  # what a scale cannot hold is refused when the scale is stored
            for start in range(0, len(blocks), step):
                chunk = blocks[start : start + step]
                self._require_finite(chunk)
                encoded[start : start + step] = self.encode(chunk)
        return out

    def _require_finite(self, values: Floats) -> None:
        if self.block_size > 1 and not np.isfinite(values).all():
            raise NotFinite(
                f"cannot store numbers as {self.name}",
                "some are infinite or not a number",
                "f32, f16 and bf16 can store them",
            )
