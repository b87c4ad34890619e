"""Models from the hub, against a fake one on loopback; nothing leaves the machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from apportion.core.errors import (
    ApportionError,
    BadFile,
    DiskFault,
    NotFound,
    Offline,
    SourceError,
    UsageError,
)
from apportion.sources import cached_models, model_files, resolve

Gguf = Callable[..., bytes]
CONFIG = b'{"model_type": "llama"}'


def load_fake_hub() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_hub", Path(__file__).with_name("fake_hub.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_hub"] = module
    spec.loader.exec_module(module)
    return module


fake = load_fake_hub()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    hub = fake.FakeHub()
    server = fake.Server(hub)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APPORTION_MODELS_DIR", str(tmp_path / "models"))
    yield hub
    server.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub" / "models--org--name"


@pytest.fixture
def ggufs(hub: Any, tiny_gguf: Gguf) -> Any:
    hub.files = {"m-Q4_K_M.gguf": tiny_gguf(1), "m-Q8_0.gguf": tiny_gguf(2), "README.md": b"text"}
    return hub


@pytest.fixture
def folder(hub: Any) -> Any:
    hub.files = {
        "config.json": CONFIG,
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model-00001-of-00002.safetensors": b"first" * 100,
        "model-00002-of-00002.safetensors": b"second" * 100,
        "model.safetensors.index.json": b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}',
        "pytorch_model.bin": b"pickle",
        "original/consolidated.00.pth": b"pickle",
        "onnx/model.onnx": b"onnx",
        "README.md": b"text",
    }
    return hub


def names(path: Path) -> set[str]:
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir()}


def test_the_usual_quantization_is_fetched_and_no_other(ggufs: Any, tiny_gguf: Gguf) -> None:
    seen: list[tuple[int, int]] = []
    found = resolve("hf:org/name", on_progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == tiny_gguf(1)
    assert (found.name, found.origin) == ("org/name:Q4_K_M", "hf:org/name:Q4_K_M")
    assert names(found.path.parent) == {"m-Q4_K_M.gguf"}
    assert model_files(found)[0].sha256 == fake.sha256(tiny_gguf(1))


def test_a_tag_chooses_in_any_case(ggufs: Any, tiny_gguf: Gguf) -> None:
    assert resolve("hf:org/name:q8_0").path.read_bytes() == tiny_gguf(2)
    with pytest.raises(NotFound) as caught:
        resolve("hf:org/name:Q2_K")
    assert "Q4_K_M, Q8_0" in caught.value.hint


def test_all_shards_of_a_split_model_are_fetched(hub: Any, tiny_gguf: Gguf) -> None:
    hub.files = {f"Q8_0/m-Q8_0-{i:05d}-of-00003.gguf": tiny_gguf(i) for i in (1, 2, 3)}
    found = resolve("hf:org/name:Q8_0")
    assert found.path.name == "m-Q8_0-00001-of-00003.gguf"
    assert len(names(found.path.parent)) == 3
    assert [file.nbytes for file in model_files(found)] == [len(tiny_gguf())] * 3


def test_a_folder_of_safetensors_comes_without_anything_pickled(folder: Any) -> None:
    found = resolve("hf:org/name")
    assert found.path.is_dir()
    assert names(found.path) == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    assert not any(".bin" in path or ".pth" in path for _, path, _ in folder.log)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"config.json": CONFIG, "pytorch_model.bin": b"x"}, "pickled"),
        ({"README.md": b""}, "neither"),
        ({"model.safetensors": b"x"}, r"no config\.json"),
        ({"m-00001-of-00002.gguf": b"x"}, "missing"),
        ({}, "neither"),
    ],
)
def test_a_repository_without_a_readable_model_says_why(hub: Any, files: dict[str, bytes], why: str) -> None:
    hub.files = files
    with pytest.raises(NotFound, match=why):
        resolve("hf:org/name")
    assert not hub.requests("GET", "/resolve/")


def test_a_cached_model_is_found_without_any_socket(
    folder: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pulled = resolve("hf:org/name")
    request.getfixturevalue("no_network")
    assert resolve("hf:org/name", offline=True) == pulled
    assert resolve("hf:org/name") == pulled
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("hf:org/name", refresh=True) == pulled
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("APPORTION_OFFLINE", "1")
    assert resolve("hf:org/name", refresh=True) == pulled


def test_offline_says_what_is_missing_and_opens_no_socket(
    ggufs: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue("no_network")
    for text in ("hf:org/name", "hf:org/name:Q8_0"):
        with pytest.raises(Offline) as caught:
            resolve(text, offline=True)
        assert f"apportion pull {text}" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(Offline):
        resolve("hf:org/name")


def test_a_half_downloaded_folder_is_not_taken_for_a_model(folder: Any) -> None:
    found = resolve("hf:org/name")
    (found.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)
    assert resolve("hf:org/name").path == found.path
    assert (found.path / "model-00002-of-00002.safetensors").exists()


def test_a_refresh_takes_the_newer_commit_and_keeps_equal_files(folder: Any) -> None:
    old = resolve("hf:org/name")
    folder.commit = fake.NEXT_COMMIT
    folder.files["tokenizer.json"] = b'{"new": 1}'
    assert resolve("hf:org/name").path == old.path
    before = len(folder.requests("GET", "/cdn/"))
    new = resolve("hf:org/name", refresh=True)
    assert new.path.name == fake.NEXT_COMMIT
    assert (new.path / "tokenizer.json").read_bytes() == b'{"new": 1}'
    assert len(folder.requests("GET", "/cdn/")) == before, "the weights did not change"


def test_a_cut_transfer_goes_on_where_it_ended(ggufs: Any) -> None:
    ggufs.files["m-Q4_K_M.gguf"] = big = os.urandom(24 << 20)
    ggufs.cut_after, ggufs.cuts = 12 << 20, 1
    assert resolve("hf:org/name").path.read_bytes() == big
    # The library writes pieces of 10 MiB: what arrived of the second one is asked for again.
    assert f"bytes={10 << 20}-" in ggufs.requests("GET", "/cdn/m-Q4_K_M")


def test_a_hub_that_serves_large_files_itself_does_as_well(ggufs: Any, tiny_gguf: Gguf) -> None:
    ggufs.redirect = False
    assert resolve("hf:org/name").path.read_bytes() == tiny_gguf(1)


def test_a_slow_transfer_arrives(ggufs: Any, tiny_gguf: Gguf) -> None:
    ggufs.pause_s, ggufs.pauses = 0.5, 1
    seen: list[tuple[int, int]] = []
    found = resolve("hf:org/name", on_progress=lambda done, total: seen.append((done, total)))
    assert found.path.read_bytes() == tiny_gguf(1)
    assert seen
    assert all(0 <= done <= total == len(tiny_gguf(1)) for done, total in seen)


def test_a_transfer_that_stands_still_is_tried_again(
    ggufs: Any, tiny_gguf: Gguf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    ggufs.pause_s, ggufs.pauses = 1.0, 1
    assert resolve("hf:org/name").path.read_bytes() == tiny_gguf(1)
    assert len(ggufs.requests("GET", "/cdn/m-Q4_K_M")) == 2


def test_a_transfer_that_is_cut_again_and_again_ends_in_words(
    ggufs: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    ggufs.cut_after, ggufs.cuts = 100, 1000
    with pytest.raises(SourceError, match="cannot reach") as caught:
        resolve("hf:org/name")
    assert "kept" in caught.value.hint
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)


def test_a_killed_download_is_resumed_by_the_next_process(ggufs: Any, cache: Path) -> None:
    big = os.urandom(24 << 20)
    ggufs.files["m-Q4_K_M.gguf"] = big
    ggufs.cut_after, ggufs.cuts = 12 << 20, 1000
    script = "from apportion.sources import resolve; resolve('hf:org/name')"
    pull = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    partial = cache / "blobs" / f"{fake.sha256(big)}.incomplete"
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(pull.pid, signal.SIGKILL)
    pull.wait()
    had = partial.stat().st_size
    assert 0 < had < len(big)
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)
    ggufs.cuts = 0
    ggufs.log.clear()
    assert resolve("hf:org/name").path.read_bytes() == big
    assert set(ggufs.requests("GET", "m-Q4_K_M")) == {f"bytes={had}-"}
    assert not list((cache / "blobs").glob("*.incomplete"))


def test_a_partial_file_that_is_too_long_starts_anew(ggufs: Any, cache: Path, tiny_gguf: Gguf) -> None:
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / f"{fake.sha256(tiny_gguf(1))}.incomplete").write_bytes(b"x" * 99_999)
    assert resolve("hf:org/name").path.read_bytes() == tiny_gguf(1)


def test_a_partial_file_of_other_bytes_is_discarded_and_the_next_try_works(
    ggufs: Any, cache: Path, tiny_gguf: Gguf
) -> None:
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / f"{fake.sha256(tiny_gguf(1))}.incomplete").write_bytes(b"x" * 100)
    with pytest.raises(BadFile, match="sha256 differs"):
        resolve("hf:org/name")
    assert resolve("hf:org/name").path.read_bytes() == tiny_gguf(1)


def test_a_file_of_another_digest_is_discarded(ggufs: Any, cache: Path) -> None:
    ggufs.lie = "c" * 64
    with pytest.raises(BadFile, match="sha256 differs"):
        resolve("hf:org/name")
    assert not list((cache / "blobs").iterdir())
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)


@pytest.mark.parametrize("digest", ["../../../escape", "C" * 64, "short", "a" * 63 + "/"])
def test_a_malformed_digest_is_refused_before_it_names_a_file(ggufs: Any, cache: Path, digest: str) -> None:
    ggufs.lie = digest
    with pytest.raises(BadFile, match="malformed"):
        resolve("hf:org/name")
    assert not cache.exists()


UNSAFE = ["../escape", "/abs", "a/../../x", "a\\..\\x", "C:x", "x\n", "x\u202e", "x" * 2000, "a\0"]


@pytest.mark.parametrize("stem", UNSAFE)
def test_a_repository_names_no_file_elsewhere(hub: Any, cache: Path, stem: str) -> None:
    hub.files = {f"{stem}-Q4_K_M.gguf": b"x", "m-Q8_0.gguf": b"y"}
    with pytest.raises(BadFile, match="unsafe name"):
        resolve("hf:org/name")
    assert not cache.exists()


@pytest.mark.parametrize("commit", ["", "../../x", "main", "a" * 39, "a" * 39 + "/"])
def test_a_malformed_commit_is_refused(ggufs: Any, cache: Path, commit: str) -> None:
    ggufs.commit = commit
    with pytest.raises(BadFile, match="commit"):
        resolve("hf:org/name")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (401, "RepoNotFound", NotFound, "HF_TOKEN"),
        (401, "", SourceError, "HF_TOKEN"),
        (403, "GatedRepo", SourceError, "accept its terms"),
        (403, "", SourceError, "HF_TOKEN"),
        (404, "RepoNotFound", NotFound, "check the name"),
        (400, "", SourceError, "try again later"),
        (500, "", SourceError, "try again later"),
    ],
)
def test_what_the_hub_answers_becomes_an_error_of_ours(
    ggufs: Any, status: int, code: str, error: type[ApportionError], words: str
) -> None:
    ggufs.refuse, ggufs.code = status, code
    with pytest.raises(error) as caught:
        resolve("hf:org/name")
    assert words in caught.value.hint
    assert str(caught.value).isprintable()


def test_a_hub_that_is_not_there_says_so(ggufs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="cannot reach the hub") as caught:
        resolve("hf:org/name")
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_hub_that_speaks_something_else_says_so(ggufs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.FakeHub, "info", lambda self: ["no", "info"])
    with pytest.raises(SourceError, match="not usable"):
        resolve("hf:org/name")


def test_a_token_is_sent_to_the_hub(ggufs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    resolve("hf:org/name")
    assert "Bearer hf_test" in ggufs.tokens


def test_a_full_disk_is_said_before_the_download(ggufs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DiskFault, match="no room") as caught:
        resolve("hf:org/name")
    assert caught.value.numbers["free"] == "10 B"
    assert not ggufs.requests("GET", "/cdn/")


def test_a_cache_that_cannot_be_written_says_so(
    ggufs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(DiskFault):
        resolve("hf:org/name")


def test_the_cache_is_where_the_hubs_own_variables_say(
    ggufs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert resolve("hf:org/name").path.is_relative_to(tmp_path / "elsewhere" / "models--org--name")


def test_a_snapshot_that_links_out_of_the_cache_is_not_followed(ggufs: Any, tmp_path: Path) -> None:
    found = resolve("hf:org/name")
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(found.path.read_bytes())
    found.path.unlink()
    found.path.symlink_to(secret)
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)


@pytest.mark.parametrize("ref", ["", "../../../x", "main", "a" * 41, "\xff" * 40])
def test_a_damaged_ref_is_no_snapshot(ggufs: Any, cache: Path, ref: str) -> None:
    resolve("hf:org/name")
    (cache / "refs" / "main").write_text(ref, encoding="latin-1")
    with pytest.raises(Offline):
        resolve("hf:org/name", offline=True)


def test_two_models_of_one_tag_are_a_question(hub: Any, tiny_gguf: Gguf) -> None:
    hub.files = {"a-Q4_0.gguf": tiny_gguf(1), "b-Q4_0.gguf": tiny_gguf(2)}
    with pytest.raises(UsageError, match="several models"):
        resolve("hf:org/name:Q4_0")


def test_the_catalogue_lists_whole_models_of_the_hubs_cache(ggufs: Any, folder: Any, tiny_gguf: Gguf) -> None:
    resolve("hf:org/name")
    listed = [(model.name, model.kind, model.kept_by) for model in cached_models()]
    assert listed == [("org/name", "safetensors", "hub")]
    folder.files["m-Q8_0.gguf"] = tiny_gguf(2)
    resolve("hf:org/name:Q8_0", refresh=True)
    listed = [(model.name, model.kind, model.kept_by) for model in cached_models()]
    assert listed == [("org/name:Q8_0", "gguf", "hub"), ("org/name", "safetensors", "hub")]
    assert cached_models()[0].nbytes == len(tiny_gguf(2))


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, apportion.sources; print('huggingface_hub' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
