"""A headless Chromium in front of a real server: a tiny mixture of experts within a budget, whose steps take
long enough for a person to look at what runs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serve.running import Running
from tests.serve.streaming import streaming

from apportion.engine.executor import RunItem
from apportion.engine.model_executor import ModelExecutor

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: install the extra `test`")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", *QUIET)
STEP_S = 0.02
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; pages of a test have a context of their own. It goes with the module: while its driver
    lives, this thread has an event loop that runs, and tests of others could have none.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium on the path (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model of experts within a budget that holds a part of it; every step takes a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelExecutor, "run", slowed(ModelExecutor.run))
        with streaming(tmp_path_factory.mktemp("models")) as one:
            yield one


def slowed(run: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def slow(self: ModelExecutor, items: Sequence[RunItem]) -> list[Any]:
        time.sleep(STEP_S)
        return run(self, items)

    return slow


class Visit:
    """A person with a browser at a server. What goes wrong unnoticed is kept in `faults`."""

    def __init__(self, context: Any, url: str) -> None:
        self.url = url
        self.context = context
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._asked)

    def go(self, name: str = "overview", heading: str | None = None) -> Any:
        """Open a page and wait until it shows figures of the server."""
        self.page.goto(f"{self.url}/#/{name}")
        self.page.get_by_role("heading", level=1, name=heading or name.capitalize()).wait_for(
            state="attached"
        )
        self.page.locator(".connection.is-live").wait_for()
        return self.page

    def _heard(self, message: Any) -> None:
        # Refusals of the API are shown to the person; the browser notes each of them here as well.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and not request.url.startswith(self.url):
            self.faults.append(f"left the origin: {request.url}")


@pytest.fixture
def visits(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Makes visits; in the end none of them may have had a fault."""
    made: list[Visit] = []

    def visit(server: Running | str, **options: Any) -> Visit:
        settings = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **options}
        url = server if isinstance(server, str) else server.url
        made.append(Visit(chromium.new_context(**settings), url))
        return made[-1]

    yield visit
    faults = [fault for one in made for fault in one.faults]
    for one in made:
        one.context.close()
    assert faults == []


@pytest.fixture
def visit(visits: Callable[..., Visit], mixture: Running) -> Visit:
    """At a desk."""
    return visits(mixture)
