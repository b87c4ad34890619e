"""Memory that is obtained once and handed out."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from apportion.core.spacing import LARGE, STEP
from apportion.kernels.memory import ALIGNMENT, Region


def test_pieces_are_aligned_and_do_not_overlap() -> None:
    region = Region(Region.room(100) + Region.room(1) + Region.room(64))
    pieces = [region.take(nbytes) for nbytes in (100, 1, 64)]
    for value, piece in enumerate(pieces):
        assert piece.ctypes.data % ALIGNMENT == 0
        piece[:] = value
    assert [set(piece.tolist()) for piece in pieces] == [{0}, {1}, {2}]


def test_no_piece_reaches_past_the_region() -> None:
    region = Region(100)
    with pytest.raises(ValueError, match="128 bytes of a region are wanted, 100 are left"):
        region.take(100)


def test_large_regions_begin_at_huge_pages() -> None:
    assert Region(5 << 20).take(1).ctypes.data % (2 << 20) == 0


def test_pieces_outlive_their_region() -> None:
    piece = Region(1 << 22).take(1 << 20)
    piece[:] = 7
    gc.collect()
    assert np.all(piece == 7)


def test_large_pieces_lie_whole_steps_apart() -> None:
    nbytes = LARGE + 1
    region = Region(Region.room(64) + 2 * Region.room(nbytes))
    region.take(64)
    first, second = region.take(nbytes), region.take(nbytes)
    apart = second.ctypes.data - first.ctypes.data
    assert apart >= nbytes
    assert apart % STEP == 0
