"""A key is asked for where one is wanted, and a lost connection is told and mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.serve.running import Running, config_for, running

KEY = "key-of-somebody-1234567890"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(config_for(tmp_path_factory.mktemp("models"), api_keys=(KEY,))) as one:
        yield one


def test_a_key_is_asked_for_until_it_is_right_and_stays_in_the_tab(visits: Any, keyed: Running) -> None:
    page = visits(keyed).page
    page.goto(keyed.url)
    entry = page.get_by_label("API key")
    entry.wait_for()
    assert entry.evaluate("input => document.activeElement === input")
    page.keyboard.press("Escape")
    assert entry.is_visible()
    entry.fill("not-this-one")
    page.keyboard.press("Enter")
    page.get_by_text("did not accept that key").wait_for()
    entry.fill(KEY)
    page.keyboard.press("Enter")
    page.locator(".connection.is-live").wait_for()
    assert not entry.is_visible()
    assert KEY in page.evaluate("JSON.stringify({...sessionStorage})")
    assert KEY not in page.evaluate("JSON.stringify({...localStorage}) + document.cookie + location.href")


def test_a_lost_connection_is_told_and_found_again(visits: Any, server: Running) -> None:
    visit = visits(server)
    page = visit.page
    page.route("**/v1/apportion/events", lambda route: route.abort())
    page.goto(server.url)
    page.locator(".notice", has_text="Connection lost").wait_for()
    assert page.locator(".connection").inner_text() == "Connection lost"
    page.unroute("**/v1/apportion/events")
    page.locator(".connection.is-live").wait_for()
    assert page.locator(".notice").count() == 0
