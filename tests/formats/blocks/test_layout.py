"""Packed codes, rounding, scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from apportion.core.errors import LimitExceeded
from apportion.formats.blocks.layout import (
    farthest,
    half_scale,
    interleave,
    inverse,
    pack,
    round_half_away,
    unpack,
)


@given(st.sampled_from([1, 2, 4]), arrays.arrays(np.uint8, st.tuples(st.integers(0, 4), st.integers(1, 9))))
def test_packing_is_the_inverse_of_unpacking(num_bits: int, packed: np.ndarray) -> None:
    codes = unpack(packed, num_bits)
    assert codes.shape == (len(packed), 8 // num_bits, packed.shape[1])
    assert (codes < 1 << num_bits).all()
    assert np.array_equal(pack(codes, num_bits), packed)


def test_planes_come_lowest_bits_first() -> None:
    packed = np.array([[0x21, 0x43]], np.uint8)
    assert unpack(packed, 4).tolist() == [[[1, 3], [2, 4]]]
    assert interleave(packed, 4).tolist() == [[1, 2, 3, 4]]


def test_ties_are_rounded_away_from_zero_and_nothing_else() -> None:
    just_below = np.nextafter(np.float32(0.5), np.float32(0))
    values = np.array([0.5, 1.5, 2.5, -0.5, -2.5, just_below, -just_below, 2.4999998, 8388609, 0], np.float32)
    assert round_half_away(values).tolist() == [1, 2, 3, -1, -3, 0, 0, 2, 8388609, 0]


def test_the_inverse_of_zero_and_of_the_tiniest_is_zero() -> None:
    with np.errstate(all="ignore"):
        assert inverse(np.array([2, 0, 1e-45, -4], np.float32)).tolist() == [0.5, 0, 0, -0.25]


def test_the_first_of_the_farthest_keeps_its_sign() -> None:
    assert farthest(np.array([[1, -3, 3], [0, 0, 0]], np.float32)).tolist() == [[-3], [0]]


def test_scales_beyond_f16_are_refused_with_the_figures() -> None:
    with np.errstate(all="ignore"), pytest.raises(LimitExceeded, match="q4_0") as failure:
        half_scale(np.array([[1.0], [-70000.0]], np.float32), "q4_0")
    assert failure.value.numbers == {"scale": 70000.0, "limit": 65504.0}
