"""Panels: the reference agrees with the core, and every format that the kernels know has panels."""

from __future__ import annotations

import numpy as np
import pytest

from apportion import _native
from apportion.formats.blocks import FORMATS, format_by_name
from apportion.formats.panels import FIELDS, PANEL_ROWS, blocks_of_panels, has_panels, rows_of_panels


def test_every_native_format_has_panels_whose_fields_fill_a_block() -> None:
    assert FIELDS.keys() == {name for name, block_format in FORMATS.items() if block_format.native}
    for name, fields in FIELDS.items():
        assert sum(width * count for width, count in fields) == format_by_name(name).block_nbytes
    assert PANEL_ROWS == _native.PANEL_ROWS


@pytest.mark.parametrize("name", FIELDS)
def test_rows_come_back_from_what_the_core_interleaved(name: str) -> None:
    block_format = format_by_name(name)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (32, 3 * block_format.block_nbytes), np.uint8)
    panels = rows.copy()
    _native.interleave_rows(block_format.ggml_type, panels, 1)
    assert not np.array_equal(panels, rows)
    assert np.array_equal(rows_of_panels(block_format, panels), rows)


@pytest.mark.parametrize("name", ["q4_0", "q6_k", "mxfp4"])
def test_blocks_of_a_piece_of_a_panel_are_the_rows_blocks(name: str) -> None:
    block_format = format_by_name(name)
    nbytes = block_format.block_nbytes
    rows = np.random.default_rng(1).integers(0, 256, (16, 4 * nbytes), np.uint8)
    panels = rows.copy()
    _native.interleave_rows(block_format.ggml_type, panels, 1)
    piece = panels.reshape(-1)[16 * nbytes : 3 * 16 * nbytes]
    blocks = blocks_of_panels(block_format, piece).reshape(2, 16, nbytes)
    assert np.array_equal(blocks, rows.reshape(16, 4, nbytes).transpose(1, 0, 2)[1:3])


def test_rows_that_fill_no_panel_and_foreign_formats_have_none() -> None:
    assert has_panels(format_by_name("q4_k"), 32)
    assert not has_panels(format_by_name("q4_k"), 40)
    assert not has_panels(format_by_name("iq2_s"), 32)
