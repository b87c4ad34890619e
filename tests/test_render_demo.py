"""The terminal picture of the README: what the small screen understands, and that the picture is its own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_demo", DOCS / "render_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("loading 10%\rloading 99%\r\x1b[2Kdone\r\n", "done"),
        ("a\r\nb\r\n\x1b[1A\x1b[2Kc", "a\nc"),
        ("a\r\nb\r\nc\x1b[2A\r\x1b[Jx", "x"),
        ("abc\b\bX", "aXc"),
        ("\x1b[?25lhidden cursor\x1b[?25h", "hidden cursor"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b[31mred\x1b[0m plain", "red plain"),
        ("naïve 日本 🙂", "naïve 日本 🙂"),
    ],
)
def test_the_screen_shows_what_a_terminal_would(demo: ModuleType, said: str, seen: str) -> None:
    screen = demo.Screen()
    screen.feed(said)
    assert screen.text().plain == seen


def test_the_picture_loads_nothing_from_elsewhere(demo: ModuleType) -> None:
    screen = demo.Screen()
    screen.feed("\x1b[32mParis\x1b[0m\r\n")
    for svg in (demo.picture("apportion run", screen), (DOCS / "images" / "demo.svg").read_text("utf-8")):
        assert not re.search(r"url\((?!#)|@font-face|@import|href=|<script|<image", svg)


def test_apportion_runs_in_a_terminal_of_its_own(demo: ModuleType) -> None:
    screen = demo.Screen()
    assert demo.run_in_terminal(["--version"], screen) == 0
    assert screen.text().plain.startswith("apportion ")


def test_the_command_is_shown_as_one_would_type_it(demo: ModuleType) -> None:
    assert demo.shown_command(["run", "smollm2", "it's so"]) == 'apportion run smollm2 "it\'s so"'
    assert demo.shown_command(["run", "a $b"]) == "apportion run 'a $b'"
