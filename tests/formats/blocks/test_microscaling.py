"""Floating-point codes and scales."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from apportion.core.errors import LimitExceeded
from apportion.formats.blocks import FORMATS

CODES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def test_mxfp4_encodes_as_ggml_does() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [
            rng.standard_normal((200, 96)),
            rng.standard_normal((100, 96)) * 2.0 ** rng.integers(-100, 100, (100, 1)),
            rng.integers(-28, 29, (100, 96)) / 4,  # ties between codes, and numbers above 6 times the scale
            np.zeros((1, 96)),
        ]
    ).astype(np.float32)
    assert np.array_equal(
        FORMATS["mxfp4"].quantize(values), quantize(values, gguf.GGMLQuantizationType.MXFP4)
    )


@pytest.mark.parametrize("exponent", [2, 100, 127, 150, 250])
def test_mxfp4_is_a_power_of_two_times_the_codes(exponent: int) -> None:
    block = np.zeros(17, np.uint8)
    block[0] = exponent
    block[1:] = np.arange(16) | 0x30  # number j: code j; number j + 16: code 3
    expected = np.concatenate([CODES, np.full(16, 1.5)]) * 2.0 ** (exponent - 127)
    assert np.array_equal(FORMATS["mxfp4"].dequantize(block), expected.astype(np.float32))


def test_mxfp4_is_off_by_at_most_a_quarter_of_the_largest_number() -> None:
    values = np.random.default_rng(2).standard_normal((500, 32)).astype(np.float32)
    error = np.abs(FORMATS["mxfp4"].dequantize(FORMATS["mxfp4"].quantize(values)) - values)
    assert (error <= np.abs(values).max(axis=1, keepdims=True) / 4).all()


def test_the_ends_of_f32_can_be_stored_in_mxfp4() -> None:
    tiny, huge = np.full((1, 32), 1e-45, np.float32), np.full((1, 32), 3e38, np.float32)
    assert (np.abs(FORMATS["mxfp4"].dequantize(FORMATS["mxfp4"].quantize(tiny))) <= 1e-38).all()
    stored = FORMATS["mxfp4"].dequantize(FORMATS["mxfp4"].quantize(huge))
    assert np.isfinite(stored).all()
    assert (stored >= 0.75 * huge).all()


def test_every_nvfp4_scale_means_what_e4m3_says() -> None:
    for scale in range(256):
        exponent, fraction = scale >> 3 & 15, scale & 7
        value = fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
        if scale == 0x7F:
            value = 0.0
        block = np.zeros(36, np.uint8)
        block[2] = scale
        block[4 + 16 : 4 + 24] = 0x72  # numbers 32-39: code 2 (1); 40-47: code 7 (6)
        expected = np.zeros(64, np.float32)
        expected[32:40], expected[40:48] = value, 6 * value
        assert np.array_equal(FORMATS["nvfp4"].dequantize(block), expected)


def test_nvfp4_is_off_by_at_most_half_the_widest_gap() -> None:
    """A sixth of the largest number, and a sixteenth for the scale's own rounding."""
    values = np.random.default_rng(3).standard_normal((300, 64)).astype(np.float32)
    error = np.abs(FORMATS["nvfp4"].dequantize(FORMATS["nvfp4"].quantize(values)) - values).reshape(-1, 16)
    assert (error <= np.abs(values).reshape(-1, 16).max(axis=1, keepdims=True) * (1 / 6 + 1 / 16)).all()
    assert np.square(error).mean() < 0.0095 * np.square(values).mean()


def test_nvfp4_refuses_what_its_largest_scale_does_not_reach() -> None:
    with pytest.raises(LimitExceeded) as failure:
        FORMATS["nvfp4"].quantize(np.full((1, 64), 2700, np.float32))
    assert failure.value.numbers["limit"] == 448
    edge = np.full((1, 64), 2688, np.float32)
    assert np.array_equal(FORMATS["nvfp4"].dequantize(FORMATS["nvfp4"].quantize(edge)), edge)
