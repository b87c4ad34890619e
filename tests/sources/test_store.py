"""Our cache: whole or absent, never outside its root."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from apportion.core.errors import ApportionError, BadFile, DiskFault, LimitExceeded
from apportion.sources import Store
from apportion.sources.lock import exclusive, is_held
from apportion.sources.reference import PackageReference
from apportion.sources.store import Manifest, ModelFile, read_manifest, tree_nbytes

PACKAGE = PackageReference("name", "1.0")


def publish(store: Store, data: bytes = b"model") -> None:
    built = store.staging(PACKAGE) / "model"
    built.mkdir(parents=True)
    (built / "m.gguf").write_bytes(data)
    files = (ModelFile("m.gguf", len(data), None),)
    store.publish(PACKAGE, built, Manifest("pypi:name==1.0", files, "RECORD"))


def test_what_is_published_is_found(store: Store) -> None:
    assert store.find(PACKAGE) is None
    publish(store)
    manifest = store.find(PACKAGE)
    assert manifest is not None
    assert manifest.files == (ModelFile("m.gguf", 5, None),)
    assert [package for package, _ in store.packages()] == [PACKAGE]


def test_publishing_replaces_what_was_damaged(store: Store) -> None:
    publish(store)
    (store.folder(PACKAGE) / "m.gguf").write_bytes(b"mod")
    assert store.find(PACKAGE) is None
    publish(store, b"other model")
    assert (store.folder(PACKAGE) / "m.gguf").read_bytes() == b"other model"
    assert store.find(PACKAGE) is not None


def test_a_link_out_of_the_cache_is_not_followed(store: Store, tmp_path: Path) -> None:
    publish(store)
    outside = tmp_path / "secret"
    outside.write_bytes(b"model")
    inside = store.folder(PACKAGE) / "m.gguf"
    inside.unlink()
    inside.symlink_to(outside)
    assert store.find(PACKAGE) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '"text"',
        "{",
        '{"files": []}',
        '{"origin": "x", "checked_by": "", "files": []}',
        '{"origin": "x", "checked_by": "", "files": 3}',
        '{"origin": "x", "checked_by": "", "files": [3]}',
        '{"origin": "x", "checked_by": "", "x": 1, "files": [{"name": "m", "nbytes": 5, "sha256": null}]}',
        "[" * 100_000,
        " " * (2 << 20),
    ],
)
def test_a_damaged_manifest_is_no_model(store: Store, text: str) -> None:
    publish(store)
    path = store.folder(PACKAGE) / "model.json"
    path.write_text(text)
    with pytest.raises(BadFile):
        read_manifest(path)
    assert store.find(PACKAGE) is None
    assert list(store.packages()) == []


@pytest.mark.parametrize(
    "name", ["../m.gguf", "/etc/passwd", "a/b", "..", ".", "", "-x", "a\\b", "a\0b", "a\nb", "x" * 300]
)
def test_a_manifest_names_no_file_elsewhere(store: Store, name: str) -> None:
    publish(store)
    path = store.folder(PACKAGE) / "model.json"
    fields = json.loads(path.read_text())
    fields["files"][0]["name"] = name
    path.write_text(json.dumps(fields))
    assert store.find(PACKAGE) is None


@pytest.mark.parametrize("sha256", ["", "../../x", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", 5])
def test_a_manifest_holds_no_malformed_digest(store: Store, sha256: object) -> None:
    publish(store)
    path = store.folder(PACKAGE) / "model.json"
    fields = json.loads(path.read_text())
    fields["files"][0]["sha256"] = sha256
    path.write_text(json.dumps(fields))
    assert store.find(PACKAGE) is None


def test_removing_frees_the_bytes_and_leaves_no_folder(store: Store) -> None:
    publish(store)
    nbytes = tree_nbytes(store.folder(PACKAGE))
    assert store.remove(PACKAGE) == nbytes
    assert not store.folder(PACKAGE).parent.exists()


def test_removing_waits_for_nobody_who_is_pulling(store: Store) -> None:
    publish(store)
    with exclusive(store.lock_path(PACKAGE)), pytest.raises(LimitExceeded):
        store.remove(PACKAGE)
    assert store.find(PACKAGE) is not None


def test_foreign_folders_in_the_cache_are_left_out(store: Store) -> None:
    publish(store)
    for name in ("Upper/1.0", "name/not-a-version", "a..b/1"):
        folder = store.root / "pypi" / name
        folder.mkdir(parents=True)
        (folder / "model.json").write_bytes((store.folder(PACKAGE) / "model.json").read_bytes())
    assert [package for package, _ in store.packages()] == [PACKAGE]


def test_interrupted_pulls_are_seen_unless_someone_works_on_them(store: Store) -> None:
    wheels = store.staging(PACKAGE) / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "x").write_bytes(b"123")
    with exclusive(store.lock_path(PACKAGE)):
        assert list(store.leftovers()) == []
    assert list(store.leftovers()) == [(PACKAGE, 3)]


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    order = []
    with exclusive(path):
        assert is_held(path)
        thread = threading.Thread(target=lambda: [order.append("second") for _ in [0] if enter(path)])
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert not is_held(path)


def enter(path: Path) -> bool:
    with exclusive(path, wait_limit_s=5):
        return True


def test_a_lock_that_is_never_let_go_is_given_up(tmp_path: Path) -> None:
    with exclusive(tmp_path / "x.lock"), pytest.raises(LimitExceeded), exclusive(tmp_path / "x.lock", 0.2):
        raise AssertionError("two held it")


def test_a_lock_file_is_no_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "target")
    with pytest.raises(DiskFault), exclusive(tmp_path / "x.lock"):
        pass
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DiskFault), exclusive(tmp_path / "locks" / "x.lock"):
        pass


def test_a_cache_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ApportionError), exclusive(tmp_path / "file" / "x.lock"):
        pass
