"""Names from files."""

from __future__ import annotations

import pytest

from apportion.formats.names import why_not_a_name


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "a", "модель", "a/b", "a..b", "x y", "模型.层"])
def test_ordinary_names_are_fine(name: str) -> None:
    assert why_not_a_name(name) is None


@pytest.mark.parametrize(
    "name", ["", "\0", "a\x7f", "a\u200b", "a\u2028", "\ud800", "..", "../a", "a/..", "/a", "\\a"]
)
def test_other_names_have_a_reason(name: str) -> None:
    assert why_not_a_name(name)
