"""Tiny models and wheels, and a pip that finds only what a test made."""

from __future__ import annotations

import base64
import hashlib
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from apportion.sources import Store


def gguf(seed: int = 0, shard: tuple[int, int] = (0, 1)) -> bytes:
    """A valid GGUF file of one tensor, different for every seed; about 4 KB. `shard`: (number from 0, of)."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    pairs = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    for key, number in ((b"split.no", shard[0]), (b"split.count", shard[1])):
        pairs += text(key) + struct.pack("<IH", 2, number)
    tensor = text(b"w%d" % shard[0]) + struct.pack("<IQIQ", 1, 1024, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + pairs + tensor
    numbers = hashlib.shake_256(bytes([seed])).digest(4096)
    return header + b"\0" * (-len(header) % 32) + numbers


def record_line(name: str, data: bytes) -> str:
    encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={encoded},{len(data)}"


MakeWheel = Callable[..., Path]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the package index; no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def make_wheel(index: Path) -> MakeWheel:
    """Write `name-version-py3-none-any.whl` with the given members into the index."""

    def make(
        name: str,
        members: Mapping[str, bytes],
        *,
        version: str = "1.0",
        requires: tuple[str, ...] = (),
        record: bool = True,
    ) -> Path:
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {line}\n" for line in requires) + "\nA model.\n"
        files = {f"{module}/{key}": data for key, data in members.items()}
        files[f"{info}/METADATA"] = metadata.encode()
        files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        lines = [record_line(key, data) for key, data in files.items()] if record else []
        files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]).encode()
        path = index / f"{module}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, data in files.items():
                archive.writestr(key, data)
        return path

    return make


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty model cache, which `resolve` uses, too."""
    monkeypatch.setenv("APPORTION_MODELS_DIR", str(tmp_path / "models"))
    return Store()


@pytest.fixture
def tiny_gguf() -> Callable[..., bytes]:
    return gguf


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to make a socket fails the test."""
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
