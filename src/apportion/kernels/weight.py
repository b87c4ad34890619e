"""A weight matrix, or a stack of them, in memory that we own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apportion import _native
from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.panels import rows_of_panels


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """Numbers in a block format.

    Attributes:
        format: how `data` is to be read.
        shape: [rows, cols], or [n, rows, cols] for a stack (experts, heads).
        data: [*shape[:-1], row_nbytes] uint8, C-contiguous.
        interleaved: every 16 rows are rearranged into a panel of as many bytes, which the core's products
            read without shuffling; a row of `data` is then no row of the matrix.
        split: the panels are parted into upper and lower bits besides, so that the largest of a token's
            products is found without reading all of them.
    """

    format: BlockFormat
    shape: tuple[int, ...]
    data: Bytes
    interleaved: bool = False
    split: bool = False

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    @property
    def storage(self) -> int:
        """What the core needs to know of `data`: the ggml type, and how its rows lie."""
        if self.split:
            return self.format.ggml_type | _native.SPLIT
        return self.format.ggml_type | (_native.INTERLEAVED if self.interleaved else 0)

    def dequantize(self) -> Floats:
        """The numbers, [*shape] float32."""
        if not self.interleaved and not self.split:
            return self.format.dequantize(self.data).reshape(self.shape)
        out = np.empty(self.shape, np.float32)
        rows = self.data.reshape(-1, self.data.shape[-1])
        _native.dequantize(self.storage, rows, out.reshape(-1, self.shape[-1]))
        return out

    @property
    def can_interleave(self) -> bool:
        """Whether rows can be rearranged into panels, or are: whole panels, of a format with kernels."""
        return self.format.native and self.shape[-2] % _native.PANEL_ROWS == 0

    def interleave(self, threads: int = 1) -> Weight:
        """The same numbers, rearranged in the memory of `data`.

        Itself where the rows are not a multiple of 16, or the core has no kernels for the format.
        """
        if self.interleaved or self.split or not self.can_interleave:
            return self
        _native.interleave_rows(self.format.ggml_type, self.data.reshape(-1, self.data.shape[-1]), threads)
        return Weight(self.format, self.shape, self.data, interleaved=True)

    def parted(self, threads: int = 1) -> Weight:
        """The same numbers, split in the memory of `data`.

        Itself where they are split, are not panels of q8_0, or have a scale that is negative: what bounds
        products would not.
        """
        can_split = self.interleaved and self.format.name == "q8_0" and len(self.shape) == 2
        if not can_split or not _native.split_panels(self.data, self.shape[1], threads):
            return self
        return Weight(self.format, self.shape, self.data, split=True)

    def in_rows(self) -> Weight:
        """The same numbers, row after row; itself where they lie so, else in memory of their own.

        Raises:
            ValueError: they are split, which only loading for the core does.
        """
        if self.split:
            raise ValueError("split rows cannot be taken apart")
        if not self.interleaved:
            return self
        rows = rows_of_panels(self.format, self.data.reshape(-1, self.data.shape[-1]))
        return Weight(self.format, self.shape, rows.reshape(self.data.shape))

    def __getitem__(self, index: int | slice) -> Weight:
        """A matrix of a stack, a run of them, or a run of a matrix's rows; a view, nothing is copied.

        Raises:
            ValueError: the rows are split, or they are interleaved and the run does not begin and end between
                panels.
        """
        if self.split:
            raise ValueError("split rows cannot be taken apart")
        data = self.data[index]
        if self.interleaved and self.data.ndim == 2:
            if not isinstance(index, slice):
                raise ValueError("a row of interleaved rows cannot be taken alone")
            start, stop, step = index.indices(self.shape[0])
            if start % _native.PANEL_ROWS or stop % _native.PANEL_ROWS or step != 1:
                raise ValueError(f"rows {start}:{stop} of interleaved rows are not whole panels")
        return Weight(self.format, data.shape[:-1] + self.shape[-1:], data, self.interleaved)


def weight_from_floats(block_format: BlockFormat, values: Floats) -> Weight:
    """Encode float32 numbers [..., cols]."""
    return Weight(block_format, tuple(values.shape), np.ascontiguousarray(block_format.quantize(values)))
