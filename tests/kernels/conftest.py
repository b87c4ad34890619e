"""What the kernels' tests share: the core on every instruction set, and weights with every bit pattern."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apportion.formats.block import BlockFormat
from apportion.formats.blocks import FORMATS
from apportion.kernels import NativeOps, Weight, available_isas, weight_from_floats

MakeOps = Callable[..., NativeOps]
MakeWeight = Callable[..., Weight]

# Where each format's half-precision scales lie in a block; everything else may be any bits.
SCALE_OFFSETS = {
    "q8_0": [0], "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "iq4_nl": [0], "iq4_xs": [0],
    "q2_k": [80, 82], "q3_k": [108], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208],
}  # fmt: skip


@pytest.fixture(params=available_isas())
def make_ops(request: pytest.FixtureRequest) -> MakeOps:
    """NativeOps on one instruction set after the other."""
    return lambda threads=1, exact=False: NativeOps(threads, exact, request.param)


@pytest.fixture(params=[name for name, block_format in FORMATS.items() if block_format.native])
def native_format(request: pytest.FixtureRequest) -> BlockFormat:
    return FORMATS[request.param]


@pytest.fixture(params=[False, True], ids=["rows", "interleaved"])
def make_weight(request: pytest.FixtureRequest) -> MakeWeight:
    """A weight of random bits with sensible scales, interleaved where asked: (format, shape, seed)."""

    def make(block_format: BlockFormat, shape: tuple[int, ...], seed: int) -> Weight:
        weight = make_rows(block_format, shape, seed)
        return weight.interleave() if request.param else weight

    def make_rows(block_format: BlockFormat, shape: tuple[int, ...], seed: int) -> Weight:
        rng = np.random.default_rng(seed)
        if block_format.block_size == 1:
            return weight_from_floats(block_format, rng.standard_normal(shape).astype(np.float32))
        blocks = int(np.prod(shape)) // block_format.block_size
        data = rng.integers(0, 256, (blocks, block_format.block_nbytes), dtype=np.uint8)
        if block_format.name == "mxfp4":
            data[:, 0] = rng.integers(110, 124, blocks)
        for offset in SCALE_OFFSETS.get(block_format.name, []):
            scales = (rng.standard_normal(blocks) * 0.01).astype(np.float16)
            data[:, offset : offset + 2] = scales[:, None].view(np.uint8)
        row_nbytes = block_format.row_nbytes(shape[-1])
        return Weight(block_format, shape, data.reshape(*shape[:-1], row_nbytes))

    return make
