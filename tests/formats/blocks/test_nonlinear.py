"""Uneven levels: where things lie, and how far the encoders may be off."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.blocks import FORMATS
from apportion.formats.blocks.nonlinear import LEVELS

NAMES = ["iq4_nl", "iq4_xs"]


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_is_below_that_of_even_levels(name: str) -> None:
    values = np.random.default_rng(1).standard_normal((64, 512)).astype(np.float32)
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    even = FORMATS["q4_0"].dequantize(FORMATS["q4_0"].quantize(values))
    assert np.square(decoded - values).mean() < 0.0072 * np.square(values).mean()
    assert np.square(decoded - values).mean() < 0.85 * np.square(even - values).mean()


@pytest.mark.parametrize("name", NAMES)
def test_no_number_is_off_by_more_than_the_widest_gap(name: str) -> None:
    """Half of the widest gap is 12 of 113; the rest is for clipping, and for rounding a shared scale."""
    rng = np.random.default_rng(2)
    values = (rng.standard_t(3, (64, 512)) * 10.0 ** rng.integers(-3, 2, (64, 1))).astype(np.float32)
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    error = np.abs(decoded - values).reshape(-1, 8, 32)
    largest = np.abs(values).reshape(-1, 8, 32).max(axis=2, keepdims=True)
    shared = largest.max(axis=1, keepdims=True) / 32 if name == "iq4_xs" else 0
    assert (error <= largest * 0.14 + shared).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_on_the_levels_come_back(name: str, sign: int) -> None:
    rng = np.random.default_rng(3)
    levels = LEVELS[rng.integers(0, 16, (20, 256))]
    levels[:, ::32] = -127
    values = (levels * np.float32(sign * 0.0625)).astype(np.float32)
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    assert np.allclose(decoded, values, rtol=1e-3, atol=1e-6)


def test_scales_of_iq4_xs_lie_where_the_drawing_says() -> None:
    """d = 1, all codes 8 (level 1): number = s - 32 of its group."""
    scales = [63, 2, 33, 20, 47, 0, 16, 31]
    block = np.zeros(136, np.uint8)
    block[:2] = [0x00, 0x3C]
    upper = sum((scale >> 4) << 2 * group for group, scale in enumerate(scales))
    block[2:4] = [upper & 255, upper >> 8]
    for pair in range(4):
        block[4 + pair] = scales[2 * pair] & 15 | (scales[2 * pair + 1] & 15) << 4
    block[8:] = 0x88
    assert np.array_equal(FORMATS["iq4_xs"].dequantize(block), np.repeat(np.array(scales) - 32.0, 32))
