"""Rotary frequencies: one inverse frequency per pair of rotated dimensions, and a factor on cos and sin.

Sources: RoPE arXiv:2104.09864, linear interpolation arXiv:2306.15595, YaRN arXiv:2309.00071, LongRoPE
arXiv:2402.13753, and the smooth interpolation published with Llama 3.1.
"""

from __future__ import annotations

import math

import numpy as np

from apportion.core.errors import BadFile
from apportion.formats.block import Floats
from apportion.models.config import Rope, RopeScaling


def inverse_frequencies(rope: Rope, divisors: Floats | None = None) -> Floats:
    """The inverse frequencies, [dims / 2] float32.

    Args:
        rope: base, dimensions and scaling.
        divisors: factors stored with the model (`rope_freqs.weight`, LongRoPE's) that each frequency is
        divided
            by; for LongRoPE the caller chooses the short or the long ones.
    """
    exponents = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    plain = (np.float32(1) / np.power(np.float32(rope.base), exponents)).astype(np.float32)
    scaling = rope.scaling
    if divisors is not None:
        plain = plain / checked_divisors(divisors, rope)
    if scaling.kind == "linear":
        return np.asarray(plain / np.float32(scaling.factor), dtype=np.float32)
    if scaling.kind == "llama3":
        return np.asarray(plain / llama3_divisors(plain, scaling), dtype=np.float32)
    if scaling.kind == "yarn":
        return _yarn(plain, rope)
    return np.asarray(plain, dtype=np.float32)


def checked_divisors(divisors: Floats, rope: Rope) -> Floats:
    """Factors from a file, refused where they would make a frequency infinite, negative or not a number."""
    if divisors.shape != (rope.dims // 2,) or not np.all((divisors > 0) & np.isfinite(divisors)):
        raise BadFile(
            "the model's rope factors are broken",
            "there must be one positive, finite factor per frequency",
            "obtain the model anew",
            factors=divisors.size,
            frequencies=rope.dims // 2,
        )
    return divisors


def llama3_divisors(plain: Floats, scaling: RopeScaling) -> Floats:
    """What Llama 3's scaling divides each frequency by: 1 for fast ones, the factor for slow ones, and a
    smooth passage between.
    """
    turns = scaling.original_context / (2 * np.pi / plain)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    return np.asarray(1 / ((1 - smooth) / scaling.factor + smooth), dtype=np.float32)


def _yarn(plain: Floats, rope: Rope) -> Floats:
    """Fast frequencies stay, slow ones are interpolated, with a linear ramp over dimensions between."""
    scaling = rope.scaling
    low = _dimension_of(scaling.beta_fast, rope)
    high = _dimension_of(scaling.beta_slow, rope)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dims - 1)
    width = high - low if high != low else 0.001
    ramp = np.clip((np.arange(rope.dims // 2, dtype=np.float32) - low) / width, 0, 1)
    return np.asarray(plain / scaling.factor * ramp + plain * (1 - ramp), dtype=np.float32)


def _dimension_of(turns: float, rope: Rope) -> float:
    """The (fractional) dimension whose frequency makes this many turns over the original context."""
    if rope.base <= 1:  # no dimension is slower than another
        return 0.0
    return (
        rope.dims
        * math.log(rope.scaling.original_context / (turns * 2 * math.pi))
        / (2 * math.log(rope.base))
    )


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's growth of attention's magnitude for a stretch by `factor`."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def yarn_score_scale(scaling: RopeScaling, weight: float) -> float:
    """YaRN's growth of attention's scores where only a part of each head is rotated (DeepSeek)."""
    return yarn_magnitude(scaling.factor, weight) ** 2 if scaling.kind == "yarn" else 1.0


def longrope_magnitude(factor: float, original_context: int) -> float:
    """LongRoPE's growth of attention's magnitude for a stretch by `factor`."""
    if factor <= 1 or original_context <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(original_context))
