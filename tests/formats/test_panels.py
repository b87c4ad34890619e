"""Panels: the reference agrees with the core, and every format that the kernels know has panels."""

from __future__ import annotations

import numpy as np
import pytest

from apportion import _native
from apportion.formats.blocks import FORMATS, format_by_name
from apportion.formats.panels import FIELDS, PANEL_ROWS, has_panels, rows_of_panels
from apportion.formats.scales import count_not_finite


def test_every_native_format_has_panels_whose_fields_fill_a_block() -> None:
    assert FIELDS.keys() == {name for name, block_format in FORMATS.items() if block_format.native}
    for name, fields in FIELDS.items():
        assert sum(width * count for width, count in fields) == format_by_name(name).block_nbytes
    assert PANEL_ROWS == _native.PANEL_ROWS


@pytest.mark.parametrize("name", FIELDS)
def test_rows_come_back_from_what_the_core_interleaved(name: str) -> None:
    block_format = format_by_name(name)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (32, 21 * block_format.block_nbytes), np.uint8)  # two squares of floats and 5
    panels = rows.copy()
    _native.interleave_rows(block_format.ggml_type, panels, 1)
    assert not np.array_equal(panels, rows)
    assert np.array_equal(rows_of_panels(block_format, panels), rows)


@pytest.mark.parametrize("name", FIELDS)
def test_scales_that_are_not_finite_are_counted_in_panels_as_in_rows(name: str) -> None:
    block_format = format_by_name(name)
    rows = np.random.default_rng(1).integers(0, 256, (32, 400 * block_format.block_nbytes), np.uint8)
    rows[3, : block_format.block_nbytes] = rows[20, -block_format.block_nbytes :] = 0xFF
    panels = rows.copy()
    _native.interleave_rows(block_format.ggml_type, panels, 1)
    count, _ = count_not_finite(block_format, rows.reshape(-1))
    assert count >= 2
    assert count_not_finite(block_format, panels.reshape(-1), PANEL_ROWS)[0] == count


def test_rows_that_fill_no_panel_and_foreign_formats_have_none() -> None:
    assert has_panels(format_by_name("q4_k"), 32)
    assert not has_panels(format_by_name("q4_k"), 40)
    assert not has_panels(format_by_name("iq2_s"), 32)
