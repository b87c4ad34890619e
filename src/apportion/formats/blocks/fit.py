"""Scales by least squares: what the encoders of the finer formats choose a group's scale with.

A group is a row of numbers that share a scale. Several scales around the one that just covers the group are
tried; for the codes that each yields, the best scale is known in closed form, and the best of all is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import Floats
from apportion.formats.blocks.layout import farthest, half_scale, inverse

ToCodes: TypeAlias = Callable[[Floats], Floats]


def integers(lowest: int, highest: int) -> ToCodes:
    """Rounding to the nearest integer of this range."""

    def to_codes(scaled: Floats) -> Floats:
        codes: Floats = np.clip(np.rint(scaled), lowest, highest)
        return codes

    return to_codes


def fit_scale(values: Floats, to_codes: ToCodes, targets: Sequence[float]) -> Floats:
    """Scales [g, 1] for groups [g, k] so that scale * to_codes(values / scale) is near the values.

    `targets` are the codes that the number of largest magnitude is tried at.
    """
    unit = inverse(farthest(values))
    best_scale = np.zeros_like(unit)
    best_gain = np.zeros_like(unit)
    for target in targets:
        codes = to_codes(values * (unit * np.float32(target)))
        along = (values * codes).sum(axis=1, keepdims=True)
        scale = along * inverse(np.square(codes).sum(axis=1, keepdims=True))
        gain = along * scale  # how much of the group's energy this scale explains
        better = gain > best_gain
        best_scale[better] = scale[better]
        best_gain[better] = gain[better]
    return best_scale


def fit_scale_and_offset(values: Floats, highest: int) -> tuple[Floats, Floats]:
    """Scales and offsets [g, 1], both at least 0, for groups [g, k]: values are near scale * code - offset,
    with codes 0..highest.
    """
    low = np.minimum(values.min(axis=1, keepdims=True), 0)
    span = values.max(axis=1, keepdims=True) - low
    best_scale, best_low = span / np.float32(highest), low
    to_codes = integers(0, highest)
    best_error = _error(values, to_codes((values - low) * inverse(best_scale)), best_scale, low)
    for target in np.linspace(highest - 1, highest + 1, 11, dtype=np.float32):
        codes = to_codes((values - low) * (inverse(span) * target))
        scale, offset = _line(values, codes)
        error = _error(values, codes, scale, offset)
        better = (error < best_error) & (scale >= 0)
        best_scale = np.where(better, scale, best_scale)
        best_low = np.where(better, offset, best_low)
        best_error = np.where(better, error, best_error)
    return best_scale, -best_low


def _line(values: Floats, codes: Floats) -> tuple[Floats, Floats]:
    """The least-squares line values = scale * codes + offset of each group, with offset at most 0."""
    count = np.float32(values.shape[1])
    sum_x = values.sum(axis=1, keepdims=True)
    sum_q = codes.sum(axis=1, keepdims=True)
    sum_qq = np.square(codes).sum(axis=1, keepdims=True)
    sum_xq = (values * codes).sum(axis=1, keepdims=True)
    determinant = inverse(count * sum_qq - np.square(sum_q))
    offset = (sum_qq * sum_x - sum_q * sum_xq) * determinant
    scale = (count * sum_xq - sum_x * sum_q) * determinant
    above = offset > 0
    return np.where(above, sum_xq * inverse(sum_qq), scale), np.where(above, np.float32(0), offset)


def _error(values: Floats, codes: Floats, scale: Floats, offset: Floats) -> Floats:
    error: Floats = np.square(codes * scale + offset - values).sum(axis=1, keepdims=True)
    return error


def share_scale(scales: Floats, lowest: int, highest: int, name: str) -> tuple[NDArray[np.float16], Floats]:
    """A super-block's scale: group scales [n, groups] -> d [n] float16 and whole codes [n, groups] in
    lowest..highest, so that d * code is near the group's scale.

    The code of largest magnitude goes to the scale of largest magnitude; d takes the sign.
    """
    target = lowest if lowest < 0 else highest
    d = half_scale(farthest(scales) / np.float32(target), name)
    return d[:, 0], integers(lowest, highest)(scales * inverse(d.astype(np.float32)))
