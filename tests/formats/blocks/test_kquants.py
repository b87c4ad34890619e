"""Super-blocks: the fields' places, and how far encoders may be off."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.blocks import FORMATS
from apportion.formats.blocks.kquants import Q8_K

GROUP = {"q2_k": 16, "q3_k": 16, "q4_k": 32, "q5_k": 32, "q6_k": 16}
STEPS = {"q2_k": 3, "q4_k": 15, "q5_k": 31}  # codes above zero
SCALE_STEPS = {"q2_k": 15, "q4_k": 63, "q5_k": 63}
# Mean square of the error over that of the numbers, for Gaussian ones; the rate of a b-bit code.
NOISE = {"q2_k": 0.077, "q3_k": 0.0218, "q4_k": 0.0054, "q5_k": 0.00136, "q6_k": 0.000315}


def kinds_of_values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    gauss = rng.standard_normal((64, 512))
    return {
        "gauss": gauss,
        "heavy tails": rng.standard_t(3, (64, 512)),
        "all positive": np.abs(gauss) + 0.5,
        "all negative": -np.abs(gauss) - 0.5,
        "groups of very different size": gauss * 10.0 ** rng.integers(-4, 2, (64, 32)).repeat(16, axis=1),
        "one outlier": np.where(rng.random((64, 512)) < 0.002, 50.0, gauss * 0.01),
        "constant": np.full((64, 512), -0.37),
    }


def round_trip(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = values.astype(np.float32)
    return numbers, FORMATS[name].dequantize(FORMATS[name].quantize(numbers))


@pytest.mark.parametrize("name", GROUP)
def test_the_noise_is_that_of_the_number_of_bits(name: str) -> None:
    values, decoded = round_trip(name, kinds_of_values()["gauss"])
    assert np.square(decoded - values).mean() < NOISE[name] * np.square(values).mean()


@pytest.mark.parametrize("name", GROUP)
@pytest.mark.parametrize("kind", kinds_of_values())
def test_no_number_is_off_by_more_than_the_codes_and_the_scales_allow(name: str, kind: str) -> None:
    """A code's step, and what rounding the group's scale (and offset) to whole steps costs."""
    values, decoded = round_trip(name, kinds_of_values()[kind])
    super_blocks = values.reshape(-1, 256 // GROUP[name], GROUP[name])
    error = np.abs(decoded.reshape(super_blocks.shape) - super_blocks)
    if name in STEPS:
        low = np.minimum(super_blocks.min(axis=2), 0)
        span = super_blocks.max(axis=2) - low
        coarse = (span.max(axis=1) - low.min(axis=1)) / SCALE_STEPS[name]
        bound = 1.1 * span / STEPS[name] + 0.75 * coarse[:, None]
    else:
        reach, scale_reach = (4, 32) if name == "q3_k" else (32, 128)
        magnitude = np.abs(super_blocks).max(axis=2)
        bound = 1.1 * magnitude / reach + 0.75 * magnitude.max(axis=1)[:, None] / scale_reach
    assert (error <= bound[:, :, None]).all()


@pytest.mark.parametrize("name", GROUP)
def test_fitted_scales_are_no_worse_than_covering_the_range(name: str) -> None:
    """Against the plainest encoder there is: the same codes with unrounded scales that just cover a group."""
    values, decoded = round_trip(name, kinds_of_values()["heavy tails"])
    groups = values.reshape(-1, GROUP[name])
    if name in STEPS:
        low = np.minimum(groups.min(axis=1, keepdims=True), 0)
        step = (groups.max(axis=1, keepdims=True) - low) / STEPS[name]
    else:
        reach = 3 if name == "q3_k" else 31
        low, step = 0, np.abs(groups).max(axis=1, keepdims=True) / reach
    plain = np.round((groups - low) / step) * step + low
    assert np.square(decoded - values).mean() < np.square(plain - groups).mean() * 1.02


def test_scales_and_offsets_of_q4_k_lie_where_the_drawing_says() -> None:
    """d = dmin = 1, all codes 1: number = s - m of its group."""
    scales, offsets = [63, 2, 33, 4, 47, 21, 16, 1], [5, 62, 7, 48, 15, 32, 11, 59]
    block = np.zeros(144, np.uint8)
    block[:4] = [0x00, 0x3C, 0x00, 0x3C]
    for group in range(4):
        block[4 + group] = scales[group] | scales[group + 4] >> 4 << 6
        block[8 + group] = offsets[group] | offsets[group + 4] >> 4 << 6
        block[12 + group] = scales[group + 4] & 15 | (offsets[group + 4] & 15) << 4
    block[16:] = 0x11
    expected = np.repeat(np.array(scales, np.float32) - np.array(offsets), 32)
    assert np.array_equal(FORMATS["q4_k"].dequantize(block), expected)


def test_planes_of_q6_k_lie_where_the_drawing_says() -> None:
    """One code bit at a time: it raises exactly one number."""
    base = np.zeros(210, np.uint8)
    base[192:208] = 1
    base[208:] = [0x00, 0x3C]
    for number in (0, 31, 32, 64, 100, 127, 128, 200, 255):
        half, place = divmod(number, 128)
        low, high = base.copy(), base.copy()
        low[64 * half + place % 64] = 1 << 4 * (place // 64)
        high[128 + 32 * half + place % 32] = 1 << 2 * (place // 32)
        expected = np.full(256, -32, np.float32)
        expected[number] += 1
        assert np.array_equal(FORMATS["q6_k"].dequantize(low), expected)
        expected[number] += 15
        assert np.array_equal(FORMATS["q6_k"].dequantize(high), expected)


def test_q8_k_is_its_scale_times_its_codes() -> None:
    rng = np.random.default_rng(4)
    block = np.zeros(9, Q8_K)
    block["d"] = rng.standard_normal(9)
    block["qs"] = rng.integers(-128, 128, (9, 256))
    decoded = FORMATS["q8_k"].dequantize(block.view(np.uint8).reshape(9, -1))
    assert np.array_equal(decoded, block["d"][:, None] * block["qs"].astype(np.float32))


def test_q8_k_is_near_and_keeps_its_sums() -> None:
    values = np.random.default_rng(6).standard_normal((7, 256)).astype(np.float32)
    data = FORMATS["q8_k"].quantize(values)
    block = data.view(Q8_K)[:, 0]
    assert np.array_equal(block["bsums"], block["qs"].reshape(7, 16, 16).sum(axis=2, dtype=np.int16))
    bound = np.abs(values).max(axis=1, keepdims=True) / 253
    assert (np.abs(FORMATS["q8_k"].dequantize(data) - values) <= bound).all()
