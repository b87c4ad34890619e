"""The first formats of ggml, against the gguf package."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from apportion.formats.blocks import FORMATS

CODED = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]


def hard_values(rng: np.random.Generator) -> np.ndarray:
    """Rows of 96 numbers: ordinary, ties at half a code, equal magnitudes, large, small, zero."""
    ordinary = rng.standard_normal((200, 96))
    halves = rng.integers(-254, 255, (50, 96)) / 2
    signs = rng.choice([-1.0, 1.0], (50, 96))
    scaled = rng.standard_normal((60, 96)) * 10.0 ** rng.integers(-6, 4, (60, 1))
    return np.concatenate(
        [ordinary, halves, signs, scaled, np.zeros((1, 96)), np.full((1, 96), 3.25)]
    ).astype(np.float32)


@pytest.mark.parametrize("name", CODED)
def test_encoding_yields_the_bytes_that_ggml_writes(name: str) -> None:
    values = hard_values(np.random.default_rng(1))
    expected = quantize(values, gguf.GGMLQuantizationType[name.upper()])
    assert np.array_equal(FORMATS[name].quantize(values), expected)


def test_q8_1_keeps_the_sum_of_its_numbers() -> None:
    values = np.random.default_rng(2).standard_normal((50, 32)).astype(np.float32)
    block = FORMATS["q8_1"].quantize(values)
    stored = block[:, 2:4].copy().view(np.float16)[:, 0].astype(np.float32)
    assert np.allclose(stored, FORMATS["q8_1"].dequantize(block).sum(axis=1), rtol=2e-3, atol=2e-2)
    assert np.array_equal(block[:, 4:], FORMATS["q8_0"].quantize(values)[:, 2:])


@pytest.mark.parametrize("name", CODED)
def test_numbers_below_the_smallest_scale_become_zero(name: str) -> None:
    values = np.full((1, 32), 1e-42, np.float32)
    values[0, ::2] *= -1
    assert not FORMATS[name].dequantize(FORMATS[name].quantize(values)).any()
