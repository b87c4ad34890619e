"""Headers of models on the hub, against a fake one on loopback; nothing leaves the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf
from tests.sources import fake_hub as fake

from apportion.core.errors import BadFile, NotFound, Offline, SourceError
from apportion.formats import open_checkpoint
from apportion.formats.gguf import cursor
from apportion.sources import headers, resolve
from apportion.sources.headers import open_headers


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    hub = fake.FakeHub()
    server = fake.Server(hub)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APPORTION_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(headers, "FIRST_NBYTES", 4096)
    monkeypatch.setattr(cursor, "CHUNK_NBYTES", 1024)
    yield hub
    server.close()


@pytest.fixture
def model(hub: Any, tmp_path: Path) -> Path:
    """A tiny model on the hub; its file here."""
    path = tiny_gguf("olmoe", tmp_path)
    hub.files = {"sub/m-Q8_0.gguf": path.read_bytes(), "README.md": b"text"}
    return path


def asked(hub: Any) -> int:
    """Bytes of content that were asked for, with each answer counted once."""
    total = 0
    for method, path, ranged in hub.log:
        if method == "GET" and path.startswith("/cdn/"):
            first, last = ranged.removeprefix("bytes=").split("-")
            total += int(last) + 1 - int(first)
    return total


def test_the_headers_of_a_model_on_the_hub_come_without_the_model(
    hub: Any, model: Path, tmp_path: Path
) -> None:
    with open_headers("hf:org/name") as (found, remote), open_checkpoint(model) as local:
        assert found.origin == "hf:org/name:Q8_0"
        assert remote.tensors == local.tensors
        assert remote.file_sizes == local.file_sizes
        assert dict(remote.metadata).keys() == dict(local.metadata).keys()
        assert remote.files[0].exists()
    assert not remote.files[0].exists()
    assert 0 < asked(hub) < model.stat().st_size / 2
    assert not list((tmp_path / "hf").rglob("*.gguf"))


def test_ranges_grow_and_no_byte_is_fetched_twice(hub: Any, model: Path) -> None:
    with open_headers("hf:org/name") as (_, remote):
        last = max(remote.tensors.values(), key=lambda tensor: tensor.offset)
        data = np.empty(last.nbytes, np.uint8)
        remote.read(last, data)
        before = len(hub.log)
        remote.read(last, data)
        assert len(hub.log) == before
    assert data.tobytes() == model.read_bytes()[last.offset : last.offset + last.nbytes]
    sizes = [
        int(ranged.split("-")[1]) + 1 - int(ranged.split("=")[1].split("-")[0])
        for method, path, ranged in hub.log
        if method == "GET" and path.startswith("/cdn/")
    ]
    assert sizes[0] == 4096
    assert sizes[1] == 8192


def test_a_folder_of_safetensors_is_read_the_same_way(hub: Any) -> None:
    table = {"a": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000]}}
    header = json.dumps(table).encode()
    shard = len(header).to_bytes(8, "little") + header + bytes(200_000)
    hub.files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": shard}
    with open_headers("hf:org/name") as (_, remote):
        assert remote.metadata["model_type"] == "llama"
        assert remote.tensors["a"].shape == (50_000,)
    assert asked(hub) <= 3 * 4096


def test_a_model_that_is_here_is_opened_here(hub: Any, model: Path) -> None:
    resolve("hf:org/name")
    hub.log.clear()
    with open_headers("hf:org/name") as (found, _):
        assert found.path.exists()
    assert hub.log == []
    with open_headers(str(model)) as (found, _):
        assert found.path == model


def test_without_a_network_it_must_be_here(hub: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Offline), open_headers("hf:org/name", offline=True):
        pass
    monkeypatch.setenv("APPORTION_OFFLINE", "1")
    with pytest.raises(Offline), open_headers("hf:org/name"):
        pass
    assert hub.log == []


def test_a_cut_connection_is_taken_up_again(hub: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.cut_after, hub.cuts = 1000, 1
    with open_headers("hf:org/name") as (_, remote), open_checkpoint(model) as local:
        assert remote.tensors == local.tensors


def test_a_hub_without_ranges_is_refused_and_not_downloaded(
    hub: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(self: Any, name: str, given: dict[str, str] | None = None) -> None:
        self.send(200, hub.files[name], given or {})

    monkeypatch.setattr(fake.Requests, "content", whole)
    with pytest.raises(SourceError, match=r"sends more.*apportion pull"), open_headers("hf:org/name"):
        pass


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (500, SourceError), (403, SourceError)])
def test_a_hub_that_refuses_is_an_error_in_our_words(
    hub: Any, model: Path, status: int, error: type[Exception]
) -> None:
    hub.refuse, hub.code = status, "RepoNotFound" if status == 404 else ""
    with pytest.raises(error), open_headers("hf:org/name"):
        pass


def test_a_file_that_is_no_model_is_refused(hub: Any) -> None:
    hub.files = {"m-Q8_0.gguf": b"no model" * 1000}
    with pytest.raises(BadFile), open_headers("hf:org/name"):
        pass
