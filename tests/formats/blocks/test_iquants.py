"""The codebooks: their sizes, and points that the format's description names."""

from __future__ import annotations

import numpy as np
import pytest

from apportion.formats.blocks import FORMATS, codebooks
from apportion.formats.blocks.codebooks import Codebook
from apportion.formats.blocks.iquants import _points

BOOKS = {name: book for name, book in vars(codebooks).items() if isinstance(book, Codebook)}


@pytest.mark.parametrize("name", BOOKS)
def test_a_codebook_has_its_number_of_different_points_of_its_levels(name: str) -> None:
    book = BOOKS[name]
    points = _points(book).view(np.int8).reshape(-1, book.length)
    assert len(np.unique(points, axis=0)) == len(points) == book.num_points
    assert set(np.unique(points)) == set(book.levels)


def test_an_even_number_of_signs_is_minus() -> None:
    """iq2_xxs and iq2_xs have room for seven signs of eight."""
    data = np.random.default_rng(1).integers(0, 256, (50, 74), dtype=np.uint8)
    data[:, :2] = [0x00, 0x3C]
    decoded = FORMATS["iq2_xs"].dequantize(data).reshape(-1, 8)
    assert not ((decoded < 0).sum(axis=1) % 2).any()


def test_the_first_point_of_every_codebook_is_all_lowest_levels() -> None:
    for name, lowest in (("iq2_xxs", 8 / 8), ("iq2_s", 8 / 8), ("iq3_xxs", 4 / 4), ("iq3_s", 1)):
        block = np.zeros(FORMATS[name].block_nbytes, np.uint8)
        block[:2] = [0x00, 0x3C]
        assert np.array_equal(FORMATS[name].dequantize(block), np.full(256, lowest, np.float32))


def test_the_shift_of_iq1_has_a_sign_for_each_32_numbers() -> None:
    block = np.zeros(50, np.uint8)
    block[:2] = [0x00, 0x3C]
    plain = FORMATS["iq1_s"].dequantize(block)
    assert np.array_equal(plain, np.full(256, -1 + 1 / 8, np.float32))
    block[34 + 2 * 3 + 1] = 0x80
    shifted = FORMATS["iq1_s"].dequantize(block)
    assert np.array_equal(np.flatnonzero(shifted != plain), np.arange(96, 128))
    assert np.array_equal(shifted[96:128], np.full(32, -1 - 1 / 8, np.float32))


def test_codebook_formats_are_read_only() -> None:
    for name in ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s"):
        assert FORMATS[name].encode is None
