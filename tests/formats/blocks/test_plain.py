"""Numbers stored one by one."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st

from apportion.formats.blocks import FORMATS

# Ties between neighbours of bf16 and f16, the ends of their ranges, subnormals, zeros, infinities.
HARD_BITS = (
    0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x3F801000, 0x3F803000, 0x7F7FFFFF, 0x7F7F8000,
    0x477FF000, 0x477FEFFF, 0x33000000, 0x33000001, 0x387FC000, 0x00000001, 0x00008000, 0x80000000,
    0x7F800000, 0xFF800000,
)  # fmt: skip


def hard_values() -> np.ndarray:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint32)
    bits = np.concatenate([bits, np.array(HARD_BITS, np.uint32)])
    values = bits.view(np.float32)
    return values[~np.isnan(values)]


@pytest.mark.parametrize("name", ["bf16", "f16", "f32"])
def test_encoding_rounds_to_nearest_as_ggml_does(name: str) -> None:
    values = hard_values()
    with np.errstate(over="ignore"):
        expected = quantize(values, gguf.GGMLQuantizationType[name.upper()]).view(np.uint8)
    assert np.array_equal(FORMATS[name].quantize(values), expected)


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "f64"])
def test_what_is_no_number_stays_that(name: str) -> None:
    values = np.array([np.nan, -np.nan, np.inf, -np.inf], np.float32)
    values = np.concatenate([values, np.array([0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)])
    decoded = FORMATS[name].dequantize(FORMATS[name].quantize(values))
    assert np.array_equal(decoded, values, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("f64", "<f8"), ("i8", "<i1"), ("i16", "<i2"), ("i32", "<i4"), ("i64", "<i8")],
)
def test_wider_numbers_and_integers_are_read_little_endian(name: str, dtype: str) -> None:
    numbers = np.array([[0, 1, -1, 100, -128]], dtype)
    assert np.array_equal(FORMATS[name].dequantize(numbers.view(np.uint8)), numbers.astype(np.float32))


@given(st.integers(-(2**63), 2**63 - 1))
def test_large_integers_are_rounded_to_the_nearest_f32(number: int) -> None:
    stored = np.array([number], "<i8").view(np.uint8)
    decoded = float(FORMATS["i64"].dequantize(stored)[0])
    below, above = (float(np.nextafter(np.float32(decoded), np.float32(end))) for end in (-np.inf, np.inf))
    assert abs(int(decoded) - number) <= min(abs(int(below) - number), abs(int(above) - number))


def test_every_f16_survives_a_round_trip() -> None:
    every = np.arange(2**16, dtype="<u2").view(np.uint8)
    numbers = FORMATS["f16"].dequantize(every)
    again = FORMATS["f16"].quantize(numbers)
    same = np.array_equal(again.view("<u2")[~np.isnan(numbers)], every.view("<u2")[~np.isnan(numbers)])
    assert same
    assert np.array_equal(np.isnan(FORMATS["f16"].dequantize(again)), np.isnan(numbers))
