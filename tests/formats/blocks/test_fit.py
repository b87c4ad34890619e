"""Scales by least squares, against trying many scales."""

from __future__ import annotations

import numpy as np

from apportion.formats.blocks.fit import fit_scale, fit_scale_and_offset, integers, share_scale

VALUES = np.random.default_rng(8).standard_normal((40, 16)).astype(np.float32)


def squares(values: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    return np.square(values - fitted).sum(axis=1)


def test_a_fitted_scale_is_close_to_the_best_of_a_thousand() -> None:
    to_codes = integers(-4, 3)
    scale = fit_scale(VALUES, to_codes, np.linspace(-5, -3, 11).tolist())
    error = squares(VALUES, to_codes(VALUES / scale) * scale)
    widest = np.abs(VALUES).max(axis=1, keepdims=True)
    tried = [
        squares(VALUES, to_codes(VALUES / (widest * share)) * widest * share)
        for share in np.concatenate([np.linspace(0.1, 0.4, 500), -np.linspace(0.1, 0.4, 500)])
    ]
    assert error.sum() <= 1.12 * np.min(tried, axis=0).sum()


def test_an_offset_is_never_negative_and_helps() -> None:
    scale, offset = fit_scale_and_offset(VALUES - 1, 15)
    assert (scale >= 0).all()
    assert (offset >= 0).all()
    codes = integers(0, 15)((VALUES - 1 + offset) / scale)
    plain = (np.ptp(VALUES, axis=1, keepdims=True)) / 15
    covered = np.round((VALUES - VALUES.min(axis=1, keepdims=True)) / plain) * plain
    covered += VALUES.min(axis=1, keepdims=True) - 1
    assert squares(VALUES - 1, codes * scale - offset).sum() < squares(VALUES - 1, covered).sum()


def test_groups_of_equal_numbers_are_met() -> None:
    for level in (-2.5, 0.0, 3.0):
        values = np.full((2, 16), level, np.float32)
        with np.errstate(all="ignore"):
            scale, offset = fit_scale_and_offset(values, 3)
            codes = integers(0, 3)(np.where(scale > 0, (values + offset) / scale, 0))
        assert np.allclose(codes * scale - offset, values)


def test_the_farthest_scale_gets_the_farthest_code() -> None:
    d, codes = share_scale(np.array([[0.5, -2.0, 1.0, 0.0]], np.float32), -32, 31, "q3_k")
    assert codes.tolist() == [[8, -32, 16, 0]]
    assert d.tolist() == [0.0625]
    d, codes = share_scale(np.array([[0.5, 2.0]], np.float32), 0, 63, "q4_k")
    assert codes.tolist() == [[16, 63]]
    assert d.dtype == np.float16
