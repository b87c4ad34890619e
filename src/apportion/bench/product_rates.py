"""What products reach on this machine, by block format: as fast a measurement as a plan needs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import numpy as np

from apportion.bench.kernels import COLD_NBYTES, activations, random_weight, seconds_of
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import FORMATS
from apportion.hardware.profile import ProductRates
from apportion.kernels import NativeOps, Weight

SHAPE = (4096, 2048)
TOKENS = 512  # of a product of many
ROUNDS = 3


def product_rates(threads: int) -> dict[str, ProductRates]:
    """Measure every format that the kernels compute on."""
    ops = NativeOps(threads)
    room = np.empty(COLD_NBYTES, np.uint8)
    return {name: _rates(ops, list(copies(found, room))) for name, found in FORMATS.items() if found.native}


def copies(block_format: BlockFormat, room: np.ndarray) -> Iterator[Weight]:
    """As many copies of a matrix as there is room for: used in turn, none comes from a cache."""
    matrix = random_weight(block_format, SHAPE)
    for start in range(0, len(room) - matrix.nbytes + 1, matrix.nbytes):
        data = room[start : start + matrix.nbytes].reshape(matrix.data.shape)
        data[:] = matrix.data
        yield Weight(block_format, SHAPE, data, matrix.interleaved)


def _rates(ops: NativeOps, matrices: list[Weight]) -> ProductRates:
    rows, cols = SHAPE
    one, many = (activations(tokens, cols) for tokens in (1, TOKENS))

    def in_turn() -> None:
        for matrix in matrices:
            ops.linear(one, matrix)

    nbytes, operations = sum(matrix.nbytes for matrix in matrices), 2 * TOKENS * rows * cols
    return ProductRates(
        matvec_GBps=nbytes / _seconds(in_turn) / 1e9,
        matmat_GOps=operations / _seconds(lambda: ops.linear(many, matrices[0])) / 1e9,
    )


def _seconds(run: Callable[[], object]) -> float:
    run()  # not counted: pages and caches
    return statistics.median(seconds_of(run) for _ in range(ROUNDS))
