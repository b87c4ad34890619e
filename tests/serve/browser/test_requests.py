"""What runs is seen, and can be ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from tests.serve.running import Running

LONG = {"prompt": "once upon a time", "max_tokens": 100, "temperature": 0, "ignore_eos": True, "stream": True}


@contextmanager
def asked(server: Running) -> Iterator[threading.Thread]:
    """Somebody else's request, which takes a while."""

    def ask() -> None:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=LONG, timeout=30) as answer:
            for _ in answer.iter_lines():
                pass

    thread = threading.Thread(target=ask)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


def test_a_request_is_seen_while_it_runs_and_ends_when_it_is_cancelled(visit: Any, mixture: Running) -> None:
    page = visit.go("requests")
    page.locator(".empty").wait_for()
    with asked(mixture):
        page.get_by_role("progressbar").wait_for()
        row = page.get_by_role("row", name="cmpl-").inner_text()
        assert "of 100" in row
        page.get_by_role("button", name="Cancel request").click()
        page.get_by_role("status").filter(has_text="told to stop").wait_for()
        page.locator(".empty").wait_for()
    assert mixture.site.pump.answers() == []
