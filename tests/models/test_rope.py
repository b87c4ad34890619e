"""Rotary frequencies: known values, and what scaling may and may not change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apportion.core.errors import BadFile
from apportion.models.config import Rope, RopeScaling
from apportion.models.rope import inverse_frequencies, longrope_magnitude, yarn_magnitude, yarn_score_scale

PLAIN = Rope(10000.0, 64)


def test_plain_frequencies_fall_geometrically_from_one() -> None:
    found = inverse_frequencies(PLAIN)
    assert found.dtype == np.float32
    assert found == pytest.approx([10000 ** (-2 * i / 64) for i in range(32)], rel=1e-6)


def test_linear_scaling_divides_every_frequency() -> None:
    scaled = inverse_frequencies(Rope(10000.0, 64, RopeScaling("linear", 4.0)))
    assert scaled == pytest.approx(inverse_frequencies(PLAIN) / 4)


@pytest.mark.parametrize(
    "scaling",
    [
        RopeScaling("llama3", 8.0, 4096),
        RopeScaling("yarn", 8.0, 4096),
        RopeScaling("yarn", 8.0, 4096, truncate=False),
    ],
)
def test_fast_frequencies_stay_and_slow_ones_are_stretched(scaling: RopeScaling) -> None:
    ratio = inverse_frequencies(PLAIN) / inverse_frequencies(Rope(10000.0, 64, scaling))
    assert ratio[0] == pytest.approx(1)
    assert ratio[-1] == pytest.approx(8)
    assert np.all(np.diff(ratio) >= -1e-5)
    assert np.any((ratio > 1.01) & (ratio < 7.9)), "a passage between the two"


def test_yarn_stands_a_range_of_no_width() -> None:
    scaling = RopeScaling("yarn", 4.0, 4, beta_fast=32.0, beta_slow=1.0)
    assert np.isfinite(inverse_frequencies(Rope(10000.0, 8, scaling))).all()


def test_stored_divisors_divide() -> None:
    divisors = np.linspace(1, 8, 32, dtype=np.float32)
    assert inverse_frequencies(PLAIN, divisors) == pytest.approx(inverse_frequencies(PLAIN) / divisors)


def test_divisors_of_another_length_are_refused() -> None:
    with pytest.raises(BadFile):
        inverse_frequencies(PLAIN, np.ones(31, dtype=np.float32))


def test_magnitudes_are_those_of_the_papers() -> None:
    assert yarn_magnitude(1.0) == 1.0
    assert yarn_magnitude(40.0) == pytest.approx(0.1 * math.log(40) + 1)
    assert yarn_score_scale(RopeScaling("yarn", 40.0, 4096), 0.707) == pytest.approx(
        (0.0707 * math.log(40) + 1) ** 2
    )
    assert yarn_score_scale(RopeScaling("linear", 40.0), 0.707) == 1.0
    assert longrope_magnitude(32.0, 4096) == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)))
    assert longrope_magnitude(1.0, 4096) == 1.0
