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

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


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

    def dequantize(self, data: Bytes) -> Floats:
        """Rows [..., row_nbytes] uint8 -> [..., cols] float32."""
        blocks = np.ascontiguousarray(data).reshape(-1, self.block_nbytes)
        return self.decode(blocks).reshape(*data.shape[:-1], -1)

    def quantize(self, values: Floats) -> Bytes:
        """Rows [..., cols] float32 -> [..., row_nbytes] uint8."""
        assert self.encode is not None, f"{self.name} is read-only"
        blocks = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, self.block_size)
        return self.encode(blocks).reshape(*values.shape[:-1], -1)
