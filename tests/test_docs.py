"""The documentation holds: what it shows runs, what is generated is fresh, the site loads nothing from
elsewhere.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.executed import ROOT, Block, executed_blocks, pages, script

PAGES = [page for page in pages() if executed_blocks(page.read_text(encoding="utf-8"))]


def in_environment(*words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with this interpreter's tools first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "NO_MKDOCS_2_WARNING": "1"} | variables
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_executed_block_of_a_page_runs(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blocks = executed_blocks(page.read_text(encoding="utf-8"))
    if any("smollm2" in block.code for block in blocks):
        request.getfixturevalue("smollm2")
    outcome = in_environment(sys.executable, "-c", script(blocks), cwd=tmp_path, APPORTION_OFFLINE="1")
    assert outcome.returncode == 0, outcome.stderr[-4000:]


def test_marked_blocks_are_found_with_their_language_and_line() -> None:
    text = (
        "# Page\n\n<!-- executed -->\n```python\nx = 1\n```\n\n```bash\nnot marked\n```\n"
        "<!-- executed -->\n\n```console\n$ echo a\na\n```\n"
    )
    assert executed_blocks(text) == [
        Block(4, "python", "x = 1"),
        Block(12, "console", "$ echo a\na"),
    ]


def test_blocks_run_in_order_share_names_and_stop_at_the_first_failure() -> None:
    blocks = [
        Block(1, "python", "x = 41"),
        Block(2, "console", "$ echo from the shell\nfrom the shell"),
        Block(3, "python", "print(x + 1)"),
        Block(4, "bash", "false\necho not reached"),
        Block(5, "python", "print('not reached')"),
    ]
    outcome = in_environment(sys.executable, "-c", script(blocks))
    assert outcome.returncode != 0
    assert sorted(outcome.stdout.split("\n")) == ["", "42", "from the shell"]
    assert "block at line 4" in outcome.stderr
    assert "block at line 5" not in outcome.stderr


def test_generated_parts_are_fresh() -> None:
    outcome = in_environment(sys.executable, "docs/generate.py", "--check")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_a_stale_page_is_noticed() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = "before\n<!-- generated: settings -->\noutdated words\n<!-- end -->\nafter\n"
    fresh = generate.filled(stale)
    assert "outdated words" not in fresh
    assert "APPORTION_THREADS" in fresh
    assert fresh.startswith("before\n")
    assert fresh.endswith("after\n")
    assert generate.filled(fresh) == fresh


class Loads(HTMLParser):
    """Collects what a browser would fetch to show a page (links that a reader may follow are no loads)."""

    SOURCES = ("src", "srcset", "data", "poster")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += [values[name] for name in self.SOURCES if name in values]
        if tag == "link" and values.get("rel") != "canonical":
            self.found.append(values.get("href", ""))


def test_the_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs mkdocs: install the extra `docs`")
    site = tmp_path / "site"
    outcome = in_environment("mkdocs", "build", "--strict", "--site-dir", str(site))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    names = {page.name for page in site.glob("*.html")}
    assert {"index.html", "quickstart.html", "cli.html", "python.html", "errors.html"} <= names
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        outside = [value for value in loads.found if re.match(r"([a-z]+:)?//", value)]
        assert not outside, f"{page.name} loads {outside}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(\s*|@import\s+)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), (
            sheet
        )
