"""The documentation's pictures of the dashboard, taken of a scene that always looks the same.

Only on request, for pictures differ by fonts: `make screenshots`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "docs" / "images"
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
QUESTION = "What is a mixture of experts, and why does it suit a small memory?"

pytestmark = pytest.mark.skipif(
    "SCREENSHOTS" not in os.environ, reason="pictures are taken by make screenshots"
)


@pytest.fixture(scope="module")
def scene() -> Iterator[str]:
    """A server that stands still."""
    sys.path.insert(0, str(ROOT / "web" / "mock"))
    from server import MockServer

    mock = MockServer(0, moving=False)
    threading.Thread(target=mock.serve_forever, daemon=True).start()
    yield mock.url
    mock.shutdown()


def overview(page: Any) -> None:
    page.locator(".chart canvas").last.wait_for()


def experts(page: Any) -> None:
    page.get_by_text("Hits", exact=True).first.wait_for()
    page.get_by_role("radio", name="Hits").check(force=True)
    page.locator("canvas").focus()
    page.keyboard.press("ArrowDown")


def requests(page: Any) -> None:
    page.get_by_role("button", name="Cancel request").first.wait_for()


def planner(page: Any) -> None:
    page.locator(".curve").wait_for()
    page.wait_for_timeout(1000)


def chat(page: Any) -> None:
    page.locator("#message").fill(QUESTION)
    page.keyboard.press("Enter")
    page.locator(".turn-foot").wait_for()


SCENES = (overview, experts, requests, planner, chat)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("play", SCENES, ids=lambda play: play.__name__)
def test_a_picture_is_taken(
    visits: Any, scene: str, play: Callable[[Any], None], viewport: dict[str, int], scheme: str
) -> None:
    name = play.__name__
    page = visits(scene, viewport=viewport, color_scheme=scheme).go(name)
    play(page)
    page.wait_for_timeout(300)
    path = IMAGES / f"dashboard-{name}-{viewport['width']}-{scheme}.png"
    page.screenshot(path=path, full_page=viewport is DESK and name != "chat")
    assert path.stat().st_size > 10_000
