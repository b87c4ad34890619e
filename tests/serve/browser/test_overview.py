"""The overview tells where the memory went, and how fast the server is."""

from __future__ import annotations

import math
import re
from typing import Any

import httpx
import pytest
from tests.serve.running import Running

KINDS = {"Runtime": "runtime", "Dense weights": "dense_weights", "Expert slots": "expert_slots"}
ASK = {"prompt": "once upon a time", "max_tokens": 6, "temperature": 0, "ignore_eos": True}


def shown(nbytes: float) -> str:
    """Bytes in three digits, as the page writes them."""
    unit = 0
    while nbytes >= 1024 and unit < 4:
        nbytes, unit = nbytes / 1024, unit + 1
    digits = max(0, 2 - math.floor(math.log10(nbytes))) if nbytes else 0
    return f"{nbytes:.{digits if unit else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def ram_of(server: Running) -> dict[str, Any]:
    budget = httpx.get(f"{server.url}/v1/apportion/status").json()["budget"]
    assert isinstance(budget["ram"], dict)
    return budget["ram"]


def test_the_bar_divides_the_budget_as_the_status_does(visit: Any, mixture: Running) -> None:
    page, ram = visit.go(), ram_of(mixture)
    track = page.locator(".division-track").bounding_box()["width"]
    whole = max(ram["limit_bytes"], ram["peak_rss_bytes"])
    for kind, nbytes in ram["kinds"].items():
        part = page.locator(f".division .k-{kind}")
        width = part.bounding_box()["width"] if part.count() else 0.0
        assert width == pytest.approx(track * nbytes / whole, abs=1.5), kind


def test_the_table_names_every_kind_and_its_bytes(visit: Any, mixture: Running) -> None:
    page, ram = visit.go(), ram_of(mixture)
    for words, kind in KINDS.items():
        row = page.get_by_role("table", name="Memory by kind").get_by_role("row", name=words)
        assert shown(ram["kinds"][kind]) in row.inner_text()
    facts = page.locator(".headline").inner_text()
    assert shown(ram["limit_bytes"]) in facts


def test_the_bar_is_told_to_those_who_do_not_see_it(visit: Any, mixture: Running) -> None:
    told = visit.go().get_by_role("img", name="Memory.").get_attribute("aria-label")
    assert f"the limit is {shown(ram_of(mixture)['limit_bytes'])}" in told
    assert "Expert slots" in told


def test_the_stripe_on_top_shows_the_same_division(visit: Any, mixture: Running) -> None:
    page, ram = visit.go(), ram_of(mixture)
    width = page.locator(".stripe .k-kv").bounding_box()["width"]
    assert width == pytest.approx(1440 * ram["kinds"]["kv"] / ram["limit_bytes"], abs=2)


def test_charts_and_comparison_show_what_was_measured(visit: Any, mixture: Running) -> None:
    httpx.post(f"{mixture.url}/v1/completions", json=ASK, timeout=20)
    page = visit.go()
    decode = page.locator(".chart", has_text="Decode").locator("b")
    decode.filter(has_text=re.compile(r"\d tok/s")).wait_for()
    assert page.locator(".chart canvas").count() == 6
    row = page.get_by_role("row", name=re.compile("^Decode"))
    assert re.search(r"promised\s+[\d.,]+ tok/s\s+measured\s+[\d.,]+ tok/s\s+.\d+%", row.inner_text())


def test_the_model_s_own_facts_are_there(visit: Any) -> None:
    facts = visit.go().locator(".model").inner_text()
    assert "tiny" in facts
    assert "loaded" in facts
    assert "Expert hit rate" in facts
