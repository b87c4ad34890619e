"""The real pip against an index that is a folder, and what becomes of what pip says."""

from __future__ import annotations

import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from apportion.core.errors import ApportionError, BadFile, NotFound, SourceError
from apportion.sources import Store, pip, resolve
from apportion.sources.reference import PackageReference

Gguf = Callable[..., bytes]
MakeWheel = Callable[..., Path]
UNREACHABLE = """WARNING: Retrying after connection broken: 'Failed to establish a new connection'
ERROR: No matching distribution found for x==1"""


@pytest.mark.parametrize("text", ["pypi:absent==1.0", "pypi:tiny-model==9.9"])
def test_what_the_index_does_not_have_is_not_found(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, text: str
) -> None:
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    with pytest.raises(NotFound, match="no wheel"):
        resolve(text)


def test_an_sdist_is_never_built(store: Store, index: Path) -> None:
    setup = index.parent / "setup.py"
    setup.write_text("raise SystemExit('built')")
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "evil-1.0/setup.py")
    with pytest.raises(NotFound) as caught:
        resolve("pypi:evil==1.0")
    assert "built" not in str(caught.value)


def test_a_broken_wheel_is_refused_in_words(store: Store, index: Path) -> None:
    (index / "bad-1.0-py3-none-any.whl").write_bytes(b"no archive")
    with pytest.raises((BadFile, SourceError)):
        resolve("pypi:bad==1.0")


def test_without_pip_it_says_how_to_get_it(
    store: Store, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SourceError, match="pip is not there") as caught:
        resolve("pypi:x==1.0")
    assert "ensurepip" in caught.value.hint


def test_a_folder_called_pip_where_the_user_stands_is_not_run(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    here = tmp_path / "here" / "pip"
    here.mkdir(parents=True)
    (here / "__main__.py").write_text("raise SystemExit('hijacked')")
    (here / "__init__.py").write_text("")
    monkeypatch.chdir(here.parent)
    assert resolve("pypi:tiny-model==1.0").path.is_file()


def test_a_download_that_stands_still_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip, "pip_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    start = time.monotonic()
    with pytest.raises(SourceError, match="stands still"):
        pip.download_wheel(PackageReference("x", "1"), tmp_path / "run", stall_limit_s=0.5)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("ERROR: No matching distribution found for x==1", NotFound, "no wheel"),
        (UNREACHABLE, SourceError, "cannot reach"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", BadFile, "announced"),
        ("OSError: [Errno 28] No space left on device", SourceError, "full"),
        ("something else", SourceError, "something else"),
        ("", SourceError, "said nothing"),
        ("ERROR: \x1b[31mred\x07", SourceError, "x1b"),
    ],
)
def test_what_pip_says_becomes_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, error: type[ApportionError], words: str
) -> None:
    monkeypatch.setattr(
        pip, "pip_command", lambda *_: [sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"]
    )
    with pytest.raises(error, match=words):
        pip.download_wheel(PackageReference("x", "1"), tmp_path / "run")


def test_the_progress_of_pip_is_what_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys, time\n"
        "print('  Downloading x-1-py3-none-any.whl (2.0 kB)', flush=True)\n"
        "out = open(os.environ['TMPDIR'] + '/x-1-py3-none-any.whl', 'wb', 0)\n"
        "out.write(bytes(1000)); time.sleep(0.7); out.write(bytes(1000)); time.sleep(0.5)\n"
        "os.rename(out.name, sys.argv[1] + '/x-1-py3-none-any.whl')\n"
    )
    folder = tmp_path / "run"
    monkeypatch.setattr(pip, "pip_command", lambda *_: [sys.executable, "-c", script, str(folder)])
    seen: list[tuple[int, int]] = []
    wheel = pip.download_wheel(
        PackageReference("x", "1"), folder, lambda done, total: seen.append((done, total))
    )
    assert wheel.stat().st_size == 2000
    assert (1000, 2000) in seen
