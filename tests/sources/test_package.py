"""From a package on an index to a checked model in our cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from apportion.core.errors import (
    ApportionError,
    BadFile,
    DiskFault,
    LimitExceeded,
    NotFound,
    Offline,
)
from apportion.sources import Store, model_files, resolve
from apportion.sources.aliases import ALIASES, Alias
from apportion.sources.reference import PackageReference

Gguf = Callable[..., bytes]
MakeWheel = Callable[..., Path]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def quick_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies from the index in place of the real pip, which takes most of a second to start.

    `test_pip.py` and the tests here that start processes run the real one.
    """

    def copy(package: PackageReference, folder: Path, on_progress: object = None) -> Path:
        name = f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"
        folder.mkdir(parents=True)
        if not (index / name).exists():
            raise NotFound(f"the package index has no wheel of {package.requirement}")
        return Path(shutil.copy(index / name, folder / name))

    monkeypatch.setattr("apportion.sources.package.download_wheel", copy)


def leftovers(store: Store) -> list[Path]:
    """Whatever a pull left behind besides the model itself."""
    return [p for p in (store.root / ".staging").rglob("*") if p.is_file()]


def test_the_model_in_a_wheel_is_obtained_and_checked(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    make_wheel(
        "tiny-model", {"data/Tiny.Q4_0.gguf": tiny_gguf(), "__init__.py": b"raise SystemExit('imported')"}
    )
    seen: list[tuple[int, int]] = []
    found = resolve("pypi:tiny-model==1.0", on_progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == tiny_gguf()
    assert found.path.name == "Tiny.Q4_0.gguf"
    assert (found.name, found.origin) == ("tiny-model", "pypi:tiny-model==1.0")
    assert seen[-1] == (len(tiny_gguf()), len(tiny_gguf()))
    assert model_files(found)[0].sha256 == sha256(tiny_gguf())
    manifest = store.find(PackageReference("tiny-model", "1.0"))
    assert manifest is not None
    assert manifest.checked_by == "RECORD"
    assert leftovers(store) == []


def test_a_pulled_model_needs_neither_pip_nor_network(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    with pytest.raises(Offline) as caught:
        resolve("pypi:tiny-model==1.0", offline=True)
    assert "apportion pull pypi:tiny-model==1.0" in caught.value.hint
    first = resolve("pypi:tiny-model==1.0")
    monkeypatch.setattr("apportion.sources.package.download_wheel", None)
    assert resolve("pypi:tiny-model==1.0", offline=True) == first


def test_a_model_in_parts_is_put_together(store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf) -> None:
    data = tiny_gguf()
    cuts = [0, 1000, 3000, len(data)]
    sums = f"{sha256(data)}  whole.gguf\n".encode()
    requires = tuple(f"big-part{i + 1}==2.0" for i in range(3))
    make_wheel("big", {"data/SHA256SUMS": sums}, version="2.0", requires=(*requires, "numpy>=1"))
    for i in range(3):
        part = {f"data/whole.gguf.part{i:02d}": data[cuts[i] : cuts[i + 1]]}
        make_wheel(f"big-part{i + 1}", part, version="2.0")
    found = resolve("pypi:big==2.0")
    assert found.path.name == "whole.gguf"
    assert found.path.read_bytes() == data
    manifest = store.find(PackageReference("big", "2.0"))
    assert manifest is not None
    assert manifest.checked_by == "SHA256SUMS"
    assert leftovers(store) == []


def test_parts_whose_whole_has_another_digest_are_refused(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    data = tiny_gguf()
    make_wheel("big", {"SHA256SUMS": f"{'0' * 64}  w.gguf\n".encode()}, requires=("big-part1==1.0",))
    make_wheel("big-part1", {"w.gguf.part0": data})
    with pytest.raises(BadFile, match="SHA256SUMS"):
        resolve("pypi:big==1.0")
    assert leftovers(store) == []
    assert list(store.packages()) == []


@pytest.mark.parametrize(
    ("numbers", "why"), [((0, 2), "missing"), ((2, 3), "missing"), ((0, 1, 3), "missing")]
)
def test_missing_parts_are_noticed(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, numbers: tuple[int, ...], why: str
) -> None:
    make_wheel("big", {f"w.gguf.part{i:02d}": tiny_gguf() for i in numbers})
    with pytest.raises(BadFile, match=why):
        resolve("pypi:big==1.0")


def test_a_package_pulls_no_foreign_package_as_its_part(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    make_wheel("big", {"x.txt": b""}, requires=("other==1.0", "bigger-part1==1.0"))
    make_wheel("other", {"m.gguf": tiny_gguf()})
    make_wheel("bigger-part1", {"w.gguf.part0": tiny_gguf()})
    with pytest.raises(NotFound, match="no GGUF file"):
        resolve("pypi:big==1.0")


def test_several_models_in_one_package_are_told_apart_by_quantization(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    make_wheel("two", {"m-Q4_K_M.gguf": tiny_gguf(1), "m-Q8_0.gguf": tiny_gguf(2)})
    assert resolve("pypi:two==1.0").path.name == "m-Q4_K_M.gguf"
    eight = resolve("pypi:two==1.0:q8_0")
    assert eight.path.read_bytes() == tiny_gguf(2)
    assert eight.origin == "pypi:two==1.0:Q8_0"
    with pytest.raises(NotFound, match="Q2_K"):
        resolve("pypi:two==1.0:Q2_K")


def test_a_split_model_keeps_its_shards_together(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    make_wheel("two", {f"m-{i + 1:05d}-of-00002.gguf": tiny_gguf(i, (i, 2)) for i in (0, 1)})
    found = resolve("pypi:two==1.0")
    assert found.path.name == "m-00001-of-00002.gguf"
    assert found.path.with_name("m-00002-of-00002.gguf").is_file()
    assert len(model_files(found)) == 2


@pytest.mark.parametrize(
    "members",
    [
        {"m.gguf": b"GGUF but no more"},
        {"m.gguf": b""},
        {"m.gguf": b"<html>sign in</html>" * 100},
        {"m.gguf.part00": b"GGUF", "m.gguf.part01": b"junk"},
    ],
)
def test_a_model_that_does_not_open_never_reaches_the_cache(
    store: Store, make_wheel: MakeWheel, members: dict[str, bytes]
) -> None:
    make_wheel("bad", members)
    with pytest.raises(ApportionError):
        resolve("pypi:bad==1.0")
    assert list(store.packages()) == []
    assert leftovers(store) == []


def test_a_hostile_wheel_never_reaches_the_cache(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    make_wheel("bad", {"../../escape.gguf": tiny_gguf(), "m.gguf": tiny_gguf()})
    with pytest.raises(BadFile):
        resolve("pypi:bad==1.0")
    make_wheel("bomb", {"m.gguf": bytes(8 << 20)})
    with pytest.raises(LimitExceeded):
        resolve("pypi:bomb==1.0")
    assert list(store.packages()) == []
    assert not list(store.root.rglob("escape*"))


def test_a_wheel_whose_record_disagrees_is_refused(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf
) -> None:
    record = b"bad/m.gguf,sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,1\n"
    make_wheel("bad", {"a.dist-info/RECORD": record, "m.gguf": tiny_gguf()}, record=False)
    with pytest.raises(BadFile, match="RECORD"):
        resolve("pypi:bad==1.0")


def test_an_alias_is_held_to_its_own_digest(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Alias("tiny-model", "1.0", "Tiny", sha256(tiny_gguf(1)), len(tiny_gguf(1)), "Apache-2.0")
    monkeypatch.setitem(ALIASES, "tiny", right)
    make_wheel("tiny-model", {"m.gguf": tiny_gguf(2)})
    for text in ("tiny", "pypi:tiny-model==1.0"):
        with pytest.raises(BadFile, match="built-in table"):
            resolve(text)
    make_wheel("tiny-model", {"m.gguf": tiny_gguf(1)})
    found = resolve("tiny")
    assert (found.name, found.origin) == ("tiny", "pypi:tiny-model==1.0")
    assert resolve("pypi:tiny-model==1.0", offline=True).path == found.path


def test_a_full_disk_is_said_before_unpacking(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(DiskFault, match="no room"):
        resolve("pypi:tiny-model==1.0")
    assert list(store.packages()) == []


def test_a_cache_below_a_file_fails_in_words(
    make_wheel: MakeWheel, tiny_gguf: Gguf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("APPORTION_MODELS_DIR", str(tmp_path / "file" / "models"))
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    with pytest.raises(DiskFault, match="cannot write"):
        resolve("pypi:tiny-model==1.0")


PULL = "import sys; from apportion.sources import resolve; print(resolve(sys.argv[1]).path)"


def test_of_two_processes_one_downloads_and_the_other_waits(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, tmp_path: Path
) -> None:
    make_wheel("tiny-model", {"m.gguf": tiny_gguf()})
    pulls = [
        subprocess.Popen(
            [sys.executable, "-c", PULL, "pypi:tiny-model==1.0"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [pull.communicate(timeout=60)[0].strip() for pull in pulls]
    assert printed == [str(store.folder(PackageReference("tiny-model", "1.0")) / "m.gguf")] * 2
    assert leftovers(store) == []


def test_a_killed_pull_leaves_no_model_and_the_next_one_resumes(
    store: Store, make_wheel: MakeWheel, tiny_gguf: Gguf, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_gguf()
    make_wheel("big", {"x.txt": b""}, requires=("big-part1==1.0", "big-part2==1.0"))
    make_wheel("big-part1", {"w.gguf.part0": data[:99]})
    # The second part is not there yet: the pull gets as far as the first.
    with pytest.raises(NotFound):
        resolve("pypi:big==1.0")
    kept = store.staging(PackageReference("big", "1.0")) / "wheels"
    pull = subprocess.Popen([sys.executable, "-c", PULL, "pypi:big==1.0"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (kept / "big-part1==1.0").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(pull.pid, signal.SIGKILL)
    pull.wait()
    assert list(store.packages()) == []
    assert (kept / "big-part1==1.0").exists()
    assert [package.name for package, _ in store.leftovers()] == ["big"]
    (index / "big_part1-1.0-py3-none-any.whl").unlink()  # so that only what was kept can serve
    make_wheel("big-part2", {"w.gguf.part1": data[99:]})
    assert resolve("pypi:big==1.0").path.read_bytes() == data
    assert leftovers(store) == []
    assert list(store.leftovers()) == []
