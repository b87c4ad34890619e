"""Models named by a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apportion.core.errors import ApportionError, BadFile, NotFound, UsageError
from apportion.sources import resolve

Gguf = Callable[..., bytes]


def test_a_file_is_itself(tmp_path: Path, tiny_gguf: Gguf) -> None:
    path = tmp_path / "My Model.Q4_0.gguf"
    path.write_bytes(tiny_gguf())
    found = resolve(str(path))
    assert (found.path, found.name, found.origin) == (path, "My Model.Q4_0", str(path))


def test_any_part_of_a_split_model_stands_for_its_first(tmp_path: Path, tiny_gguf: Gguf) -> None:
    for number in (1, 2):
        (tmp_path / f"m-{number:05d}-of-00002.gguf").write_bytes(tiny_gguf(number))
    first = tmp_path / "m-00001-of-00002.gguf"
    assert resolve(str(tmp_path / "m-00002-of-00002.gguf")).path == first
    assert resolve(str(tmp_path)).path == first


def test_a_folder_of_safetensors_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    found = resolve(str(tmp_path))
    assert (found.path, found.name) == (tmp_path, tmp_path.name)


def test_a_folder_with_one_gguf_stands_for_it(tmp_path: Path, tiny_gguf: Gguf) -> None:
    (tmp_path / "only.gguf").write_bytes(tiny_gguf())
    (tmp_path / "README.md").write_text("text")
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    assert resolve(str(tmp_path)).path == tmp_path / "only.gguf"


def test_a_folder_with_several_models_asks_which(tmp_path: Path, tiny_gguf: Gguf) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(tiny_gguf())
    with pytest.raises(UsageError) as caught:
        resolve(str(tmp_path))
    assert "a.gguf, b.gguf" in caught.value.hint


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="neither"):
        resolve(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadFile, match=r"config\.json is missing"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("smolm2", "smollm2"),
        ("gemma3_270m", "gemma3-270m"),
        ("org/name", "hf:org/name"),
        ("nowhere/model.gguf", "check the path"),
        ("../../nowhere", "check the path"),
    ],
)
def test_what_is_not_there_is_refused_with_what_was_meant(
    text: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound) as caught:
        resolve(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text", ["x" * 3000 + ".gguf", "a\ud800.gguf", "/dev/null", "/dev/null/x", "a/" * 1500 + "b"]
)
def test_odd_paths_fail_in_words(text: str) -> None:
    with pytest.raises(ApportionError):
        resolve(text)


def test_a_link_to_nowhere_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").symlink_to("moved-away.gguf")
    with pytest.raises(NotFound, match=r"link to something .* moved-away"):
        resolve(str(tmp_path / "m.gguf"))


def test_a_folder_in_a_circle_of_links_fails_in_words(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(NotFound):
        resolve(str(tmp_path / "loop"))
