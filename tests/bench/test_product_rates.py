"""What a plan wants to know of products: each matrix lies at a place of its own, so that memory is read."""

from __future__ import annotations

import numpy as np

from apportion.bench.product_rates import SHAPE, copies
from apportion.formats.blocks import FORMATS


def test_copies_fill_the_room_and_share_nothing() -> None:
    room = np.zeros(3 * FORMATS["q4_0"].row_nbytes(SHAPE[1]) * SHAPE[0] + 17, np.uint8)
    matrices = list(copies(FORMATS["q4_0"], room))
    assert len(matrices) == 3
    starts = [matrix.data.ctypes.data for matrix in matrices]
    assert np.diff(starts).tolist() == [matrices[0].nbytes] * 2
    assert all(np.array_equal(matrix.dequantize(), matrices[0].dequantize()) for matrix in matrices)
