"""A weight matrix, or a stack of them, in memory that we own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apportion.formats.block import BlockFormat, Bytes, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """Numbers in a block format.

    Attributes:
        format: how `data` is to be read.
        shape: [rows, cols], or [n, rows, cols] for a stack (experts, heads).
        data: [*shape[:-1], row_nbytes] uint8, C-contiguous.
    """

    format: BlockFormat
    shape: tuple[int, ...]
    data: Bytes

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    def dequantize(self) -> Floats:
        """The numbers, [*shape] float32."""
        return self.format.dequantize(self.data).reshape(self.shape)

    def __getitem__(self, index: int | slice) -> Weight:
        """A matrix of a stack, a run of them, or a run of a matrix's rows; a view, nothing is copied."""
        data = self.data[index]
        shape = data.shape[:-1] + self.shape[-1:]
        return Weight(self.format, shape, data)


def weight_from_floats(block_format: BlockFormat, values: Floats) -> Weight:
    """Encode float32 numbers [..., cols]."""
    return Weight(block_format, tuple(values.shape), np.ascontiguousarray(block_format.quantize(values)))
