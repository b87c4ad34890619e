"""Few levels and a scale."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from apportion.formats.blocks import FORMATS

LEVELS = {"tq1_0": [-1, 0, 1], "tq2_0": [-1, 0, 1], "q2_0": [-1, 0, 1], "q1_0": [-1, 1]}


@pytest.mark.parametrize("name", ["tq1_0", "tq2_0"])
def test_encoding_yields_the_bytes_that_ggml_writes(name: str) -> None:
    rng = np.random.default_rng(1)
    ties = rng.integers(-2, 3, (50, 512)) / 2
    values = np.concatenate([rng.standard_normal((100, 512)), ties, np.zeros((1, 512))]).astype(np.float32)
    assert np.array_equal(
        FORMATS[name].quantize(values), quantize(values, gguf.GGMLQuantizationType[name.upper()])
    )


@pytest.mark.parametrize("name", LEVELS)
def test_numbers_on_the_levels_come_back(name: str) -> None:
    values = np.random.default_rng(2).choice(LEVELS[name], (9, 768)).astype(np.float32) * np.float32(0.0371)
    scale = np.float32(np.float16(0.0371))
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    assert np.array_equal(decoded, np.round(values / np.float32(0.0371)) * scale)


def test_q1_0_has_a_sign_for_each_number_lowest_bit_first() -> None:
    block = np.zeros(18, np.uint8)
    block[:2] = [0x00, 0x40]  # d = 2
    block[2:4] = [0b00000101, 0b10000000]
    expected = np.full(128, -2, np.float32)
    expected[[0, 2, 15]] = 2
    assert np.array_equal(FORMATS["q1_0"].dequantize(block), expected)


def test_q1_0_takes_the_mean_magnitude() -> None:
    values = np.random.default_rng(3).standard_normal((20, 128)).astype(np.float32)
    decoded = FORMATS["q1_0"].dequantize(FORMATS["q1_0"].quantize(values))
    assert np.array_equal(np.sign(decoded), np.sign(values))
    assert np.allclose(np.abs(decoded), np.abs(values).mean(axis=1, keepdims=True), rtol=1e-3)


def test_q2_0_has_four_levels_in_neighbouring_bits() -> None:
    block = np.zeros(18, np.uint8)
    block[:2] = [0x00, 0x38]  # d = 0.5
    block[2] = 0b11_10_01_00
    block[3:] = 0b01_01_01_01
    decoded = FORMATS["q2_0"].dequantize(block)
    assert np.array_equal(decoded[:4], [-0.5, 0, 0.5, 1])
    assert not decoded[4:].any()
