"""Weights in both layouts hold the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from apportion.formats.block import BlockFormat
from apportion.kernels import NativeOps, Weight, weight_from_floats

MakeWeight = Callable[..., Weight]


@pytest.fixture
def rows(native_format: BlockFormat) -> Weight:
    cols = 512 if native_format.block_size > 1 else 37
    values = np.random.default_rng(3).standard_normal((3, 32, cols)).astype(np.float32)
    return weight_from_floats(native_format, values)


def test_interleaving_keeps_every_number_in_the_same_memory(rows: Weight) -> None:
    numbers = rows.dequantize()
    panels = rows.interleave(threads=2)
    assert panels.interleaved
    assert panels.data is rows.data
    assert panels.nbytes == rows.nbytes
    assert np.array_equal(panels.dequantize(), numbers)
    assert panels.interleave() is panels


def test_a_stack_and_runs_of_whole_panels_can_be_taken_apart(rows: Weight) -> None:
    numbers = rows.dequantize()
    panels = rows.interleave()
    assert np.array_equal(panels[1].dequantize(), numbers[1])
    assert np.array_equal(panels[1:].dequantize(), numbers[1:])
    assert np.array_equal(panels[2][16:32].dequantize(), numbers[2, 16:])
    with pytest.raises(ValueError, match="whole panels"):
        panels[0][8:24]
    with pytest.raises(ValueError, match="alone"):
        panels[0][3]


def test_rows_that_are_no_whole_panels_stay_as_they_are(native_format: BlockFormat) -> None:
    cols = 256 if native_format.block_size > 1 else 5
    weight = weight_from_floats(native_format, np.ones((17, cols), np.float32))
    assert weight.interleave() is weight


def test_products_are_the_same_in_both_layouts(rows: Weight) -> None:
    ops = NativeOps(1)
    x = np.random.default_rng(4).standard_normal((5, rows.shape[-1])).astype(np.float32)
    matrix = Weight(rows.format, rows.shape[1:], rows.data[0].copy())
    expected = ops.linear(x, matrix)
    assert np.array_equal(ops.linear(x, ops.prepare(matrix)), expected)
