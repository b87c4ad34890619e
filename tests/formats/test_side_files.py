from __future__ import annotations

from pathlib import Path

import pytest

from apportion.core.errors import LimitExceeded, NotFound
from apportion.formats.side_files import FolderFiles, NoFiles, files_of


def test_a_folder_tells_the_files_that_belong_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "additional_chat_templates").mkdir()
    for name in ("tokenizer.json", "README.md", "config.json", "additional_chat_templates/tool_use.jinja"):
        (tmp_path / name).write_text(name)
    files = FolderFiles(tmp_path)
    assert files.names() == ["config.json", "tokenizer.json", "additional_chat_templates/tool_use.jinja"]
    assert files.place == tmp_path.name
    assert files.has("tokenizer.json")
    assert not files.has("tokenizer.model")
    assert files.read("tokenizer.json", 14) == b"tokenizer.json"
    with pytest.raises(LimitExceeded, match=r"tokenizer\.json is too large"):
        files.read("tokenizer.json", 13)
    with pytest.raises(NotFound):
        files.read("tokenizer.model", 100)


def test_a_path_stands_for_its_folders_files(tmp_path: Path) -> None:
    given = NoFiles()
    assert files_of(given) is given
    assert files_of(tmp_path).names() == []


def test_where_there_are_none_nothing_is_found() -> None:
    assert NoFiles().names() == []
    assert not NoFiles().has("config.json")
    with pytest.raises(NotFound):
        NoFiles().read("config.json", 1)
