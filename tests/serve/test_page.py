"""The dashboard's files in the package are those that its sources make, and they are small."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from apportion.serve.page import INDEX, POLICY, page_files

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
BUILT = ROOT / "src" / "apportion" / "serve" / "static"
OUTSIDE = ("digest.ts", "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")
MOST = 150 * 1024  # bytes of scripts and styles as they travel


def digest_of_sources() -> str:
    """As `web/digest.ts` reckons it."""
    inside = [
        path for path in (WEB / "src").rglob("*") if path.is_file() and not path.name.endswith(".test.ts")
    ]
    names = sorted([*OUTSIDE, *(path.relative_to(WEB).as_posix() for path in inside)])
    whole = hashlib.sha256()
    for name in names:
        own = hashlib.sha256((WEB / name).read_bytes()).hexdigest()
        whole.update(f"{name} {own}\n".encode())
    return whole.hexdigest()


def test_the_built_page_belongs_to_its_sources() -> None:
    if not WEB.is_dir():
        pytest.skip("needs the sources of the page, which a source distribution may lack")
    built_from = (BUILT / "sources.sha256").read_text(encoding="ascii").strip()
    assert built_from == digest_of_sources(), "build the page anew: make web"


def test_scripts_and_styles_stay_below_150_kib_compressed() -> None:
    sizes = {
        name: len(gzip.compress(file.content, 9))
        for name, file in page_files().items()
        if name.endswith((".js", ".css"))
    }
    assert sizes
    assert sum(sizes.values()) < MOST, sizes


def test_the_page_has_no_script_of_its_own_and_loads_nothing_from_elsewhere() -> None:
    page = page_files()[INDEX].content.decode()
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    assert not re.findall(r"""\bon[a-z]+=|\bstyle=|(?:src|href)=["'](?:https?:)?//""", page)
    assert "unsafe" not in POLICY


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r'(?:src|href)="\./([^"]+)"', page_files()[INDEX].content.decode())
    assert len(named) >= 3
    assert set(named) <= set(page_files())


def test_the_lock_file_names_no_host() -> None:
    if not WEB.is_dir():
        pytest.skip("needs the sources of the page, which a source distribution may lack")
    assert '"resolved"' not in (WEB / "package-lock.json").read_text(encoding="utf-8")
