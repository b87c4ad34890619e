"""The peak resident size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apportion.core.resident import peak_rss_bytes

SLACK = 1 << 20  # the kernel counts pages in batches


def test_the_peak_grows_with_what_is_touched_and_never_falls() -> None:
    before = peak_rss_bytes()
    block = np.ones(before + (8 << 20), dtype=np.uint8)
    grown = peak_rss_bytes()
    assert grown >= before + (7 << 20)
    del block
    assert peak_rss_bytes() >= grown - SLACK


def test_without_proc_the_system_call_tells_about_the_same(tmp_path: Path) -> None:
    assert peak_rss_bytes(tmp_path / "none") == pytest.approx(peak_rss_bytes(), rel=0.05)


def test_a_status_without_the_line_falls_back_too(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\n")
    assert peak_rss_bytes(status) > 1 << 20
