"""`apportion verify`: findings, digests, exit status."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import NewTensor, write_gguf


@pytest.fixture
def model(tmp_path: Path) -> Path:
    values = np.linspace(-1, 1, 64, dtype=np.float32)
    tensors = [NewTensor(name, format_by_name("f32"), (64,), values.view(np.uint8)) for name in ("a", "b")]
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "llama"}, tensors)
    return tmp_path / "m.gguf"


def flip(path: Path, offset: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= value
    path.write_bytes(data)


def test_a_sound_model_ends_with_status_0(apportion: Callable[..., Any], model: Path) -> None:
    outcome = apportion("verify", model, "--json")
    assert outcome.status == 0
    assert outcome.object["ok"] is True
    assert outcome.object["findings"] == []
    assert "is sound: 2 tensors" in apportion("verify", model).out


def test_a_number_that_is_not_finite_names_file_and_tensor(
    apportion: Callable[..., Any], model: Path
) -> None:
    size = model.stat().st_size
    data = bytearray(model.read_bytes())
    data[size - 4 :] = np.float32(np.nan).tobytes()
    model.write_bytes(data)
    outcome = apportion("verify", model, "--json")
    (finding,) = outcome.object["findings"]
    assert outcome.status == 1
    assert (finding["kind"], finding["file"], finding["tensor"]) == ("not_finite", "m.gguf", "b")
    assert "m.gguf: b: 1 of 64 numbers" in apportion("verify", model).out


def test_a_flipped_bit_is_found_after_recording(apportion: Callable[..., Any], model: Path) -> None:
    recorded = apportion("verify", model, "--record", "--json")
    assert recorded.status == 0
    assert Path(recorded.object["recorded"]).name == "m.gguf.digests.json"
    assert apportion("verify", model, "--json").object["checks"] == ["layout", "numbers", "digests"]
    flip(model, model.stat().st_size - 300, 1)
    outcome = apportion("verify", model, "--json")
    assert outcome.status == 1
    assert [(f["kind"], f["tensor"]) for f in outcome.object["findings"]] == [("changed", "a")]


def test_the_record_may_lie_elsewhere(apportion: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere.json"
    assert apportion("verify", model, "--record", "--digests", place).status == 0
    assert not model.with_name("m.gguf.digests.json").exists()
    assert apportion("verify", model, "--digests", place, "--json").object["checks"][-1] == "digests"
    assert apportion("verify", model, "--digests", tmp_path / "absent.json").status == 1


def test_a_model_with_findings_is_not_recorded(apportion: Callable[..., Any], model: Path) -> None:
    outcome = apportion("verify", model, "--record", "--sha256", "0" * 64, "--json")
    assert outcome.status == 1
    assert outcome.object["recorded"] is None
    assert not model.with_name("m.gguf.digests.json").exists()


def test_sha256_is_compared(apportion: Callable[..., Any], model: Path) -> None:
    right = hashlib.sha256(model.read_bytes()).hexdigest()
    assert apportion("verify", model, "--sha256", right).status == 0
    outcome = apportion("verify", model, "--sha256", "0" * 64, "--json")
    assert outcome.status == 1
    assert outcome.object["findings"][0]["kind"] == "sha256"


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "../" + "0" * 61, "0" * 65])
def test_what_is_no_digest_is_a_usage_error(apportion: Callable[..., Any], model: Path, digest: str) -> None:
    assert apportion("verify", model, "--sha256", digest).status == 2


def test_a_file_that_does_not_open_is_a_finding(apportion: Callable[..., Any], model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-40])
    outcome = apportion("verify", model, "--json")
    assert outcome.status == 1
    assert outcome.object["findings"][0]["kind"] == "truncated"


def test_a_missing_model_is_an_error(apportion: Callable[..., Any], tmp_path: Path) -> None:
    outcome = apportion("verify", tmp_path / "absent.gguf", "--json")
    assert outcome.status == 1
    assert outcome.object["error"]["code"] == "not_found"
