"""gpt-oss's MXFP4 experts: from the blocks and scales of its safetensors to ggml's `mxfp4` blocks.

Both hold 32 four-bit floats and one power-of-two scale per block. safetensors keeps scales apart and puts
neighbours into one byte (values 2j and 2j + 1); ggml puts the scale first and value j beside value j + 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.blocks import format_by_name
from apportion.models.recipes import NO_SHAPE, Plain, Reader, Tensors, entry_nbytes, item_nbytes

BLOCK_SIZE = 32


@dataclass(frozen=True, slots=True)
class Mxfp4(Plain):
    """Of blocks [E, N, K / 32, 16] and scales [E, N, K / 32], every `step`-th row from `start` on: [E, N /
    step, K].

    gpt-oss stores gate and up projections row by row in turn, hence the step.
    """

    blocks: str
    scales: str
    start: int = 0
    step: int = 1

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.blocks, self.scales)

    def format(self, tensors: Tensors) -> BlockFormat:
        return format_by_name("mxfp4")

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        count, rows, num_blocks, nbytes = tensors[self.blocks].shape
        one_byte_each = all(tensors[name].format.block_nbytes == 1 for name in self.sources)
        fits = nbytes == BLOCK_SIZE // 2 and tensors[self.scales].shape == (count, rows, num_blocks)
        return (count, rows // self.step, num_blocks * BLOCK_SIZE) if fits and one_byte_each else NO_SHAPE

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 8 * item_nbytes(tensors[self.blocks])

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        blocks, scales = reader.tensors[self.blocks], reader.tensors[self.scales]
        codes = np.empty(blocks.shape[1:], dtype=np.uint8)
        exponents = np.empty(scales.shape[1:], dtype=np.uint8)
        for expert, place in enumerate(out.reshape(-1, entry_nbytes(self, reader.tensors)), first):
            reader.read(self.blocks, codes.reshape(-1), expert * item_nbytes(blocks))
            reader.read(self.scales, exponents.reshape(-1), expert * item_nbytes(scales))
            repacked = place.reshape(-1, blocks.shape[2], 1 + BLOCK_SIZE // 2)
            repacked[:, :, 0] = exponents[self.start :: self.step]
            repacked[:, :, 1:] = repack_codes(codes[self.start :: self.step])


def repack_codes(codes: Bytes) -> Bytes:
    """Bytes [..., 16] with neighbours together -> bytes [..., 16] with value j beside value j + 16."""
    values = np.stack([codes & 0x0F, codes >> 4], axis=-1).reshape(*codes.shape[:-1], BLOCK_SIZE)
    half = BLOCK_SIZE // 2
    return np.asarray(values[..., :half] | (values[..., half:] << 4), dtype=np.uint8)
