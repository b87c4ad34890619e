"""The map of experts, with a pointer, with keys, and read aloud."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.serve.running import Running

ASK = {"prompt": "once upon a time", "max_tokens": 4, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def table(mixture: Running) -> dict[str, Any]:
    httpx.post(f"{mixture.url}/v1/completions", json=ASK, timeout=20)
    told = httpx.get(f"{mixture.url}/v1/apportion/experts").json()
    assert isinstance(told, dict)
    return told


def test_arrow_keys_walk_over_the_cells_and_each_is_read_out(visit: Any, table: dict[str, Any]) -> None:
    page = visit.go("experts")
    page.locator("canvas").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    hits, misses = table["hits"][1][2], table["misses"][1][2]
    place = "in memory" if table["resident"][1][2] else "on disk"
    expected = f"Layer {table['numbers'][1]}, expert 2: {place}, {hits} hits, {misses} misses"
    assert page.locator("#cell").inner_text() == expected
    page.keyboard.press("End")
    assert f"expert {table['experts'] - 1}:" in page.locator("#cell").inner_text()


def test_the_summary_counts_as_the_table_does(visit: Any, table: dict[str, Any]) -> None:
    figures = visit.go("experts").locator(".figures")
    figures.wait_for()
    resident = sum(map(sum, table["resident"]))
    assert f"{resident} of {table['layers'] * table['experts']}" in figures.inner_text()
    assert f"{sum(map(sum, table['misses'])):,}" in figures.inner_text()


def test_the_map_is_painted_anew_for_hits(visit: Any, table: dict[str, Any]) -> None:
    page = visit.go("experts")
    painted = "document.querySelector('canvas').toDataURL()"
    page.locator("canvas").wait_for()
    page.wait_for_timeout(100)
    before = page.evaluate(painted)
    page.get_by_text("Hits", exact=True).locator("visible=true").last.wait_for()
    page.get_by_role("radio", name="Hits").check(force=True)
    page.wait_for_function(f"before => {painted} !== before", arg=before)
    assert page.locator(".ramp.is-hits").count() == 1
    assert sum(map(sum, table["hits"])) > 0


def test_a_server_without_experts_says_so(visits: Any, server: Running) -> None:
    page = visits(server).go("experts")
    assert "No mixture of experts" in page.locator(".empty").inner_text()
