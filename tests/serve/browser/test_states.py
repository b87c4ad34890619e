"""What a person sees of a server that loads, fails, stops, or has no budget."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.serve.running import Running


@pytest.fixture
def told(server: Running) -> dict[str, Any]:
    """A status of the server, to be changed."""
    status = httpx.get(f"{server.url}/v1/apportion/status").json()
    assert isinstance(status, dict)
    return status


def shown(visits: Any, server: Running, told: dict[str, Any], name: str = "overview") -> Any:
    """The page of a server that tells this."""
    visit = visits(server)
    body = f"data: {json.dumps(told)}\n\n"
    headers = {"content-type": "text/event-stream"}
    visit.page.route("**/v1/apportion/events", lambda route: route.fulfill(body=body, headers=headers))
    visit.page.goto(f"{server.url}/#/{name}")
    visit.page.locator("h1").wait_for(state="attached")
    return visit.page


def test_loading_is_shown_with_its_progress(visits: Any, server: Running, told: dict[str, Any]) -> None:
    told["models"][0] |= {"state": "loading", "progress": 0.42, "plan": None, "kv": None}
    page = shown(visits, server, told)
    bar = page.get_by_role("progressbar", name="Loading tiny")
    assert bar.get_attribute("aria-valuenow") == "42"
    assert "42%" in page.locator(".notices").inner_text()


def test_a_model_that_failed_says_why(visits: Any, server: Running, told: dict[str, Any]) -> None:
    told["models"][0] |= {"state": "failed", "error": "tiny does not fit into 1 MiB"}
    page = shown(visits, server, told)
    assert "tiny does not fit into 1 MiB" in page.locator(".notices").inner_text()


def test_a_server_that_stops_says_so(visits: Any, server: Running, told: dict[str, Any]) -> None:
    page = shown(visits, server, {**told, "draining": True})
    assert "The server is stopping" in page.locator(".notices").inner_text()


def test_a_peak_beyond_the_limit_stands_out(visits: Any, server: Running, told: dict[str, Any]) -> None:
    told["budget"]["ram"] |= {"limit_bytes": 1 << 30, "leased_bytes": 1 << 30, "peak_rss_bytes": 2 << 30}
    page = shown(visits, server, told)
    assert page.locator(".headline-facts .is-bad").inner_text() == "2.00 GiB"
    track = page.locator(".division-track").bounding_box()
    limit = page.locator(".division-limit").bounding_box()
    assert limit["x"] - track["x"] == pytest.approx(track["width"] / 2, abs=2)


def test_without_a_budget_the_page_says_so(visits: Any, server: Running) -> None:
    page = visits(server).go()
    assert "no budget was stated" in page.locator(".headline").inner_text()
    assert page.locator(".division-limit").count() == 0


def test_names_of_models_are_text_whatever_they_are(
    visits: Any, server: Running, told: dict[str, Any]
) -> None:
    told["models"][0]["name"] = "<img src=x onerror=alert(1)>"
    page = shown(visits, server, told)
    assert "<img src=x" in page.locator(".model h3").inner_text()
    assert page.locator("main img").count() == 0
