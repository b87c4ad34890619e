"""Which files of a model folder may be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.core.errors import BadFile, NotFound
from apportion.formats.folder import file_in


def test_a_file_of_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    assert file_in(tmp_path, "a.json") == tmp_path / "a.json"


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to("a")
    assert file_in(tmp_path, "b") == tmp_path / "b"


def test_a_snapshot_of_the_hub_may_link_to_its_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "f00").touch()
    (snapshot / "config.json").symlink_to("../../blobs/f00")
    (tmp_path / "secret").touch()
    (snapshot / "other.json").symlink_to("../../secret")
    assert file_in(snapshot, "config.json")
    with pytest.raises(BadFile, match="out of the model folder"):
        file_in(snapshot, "other.json")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").touch()
    (folder / "a").symlink_to("../secret")
    with pytest.raises(BadFile, match="out of the model folder"):
        file_in(folder, "a")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BadFile):
        file_in(tmp_path, "a")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/a", "a/b", "a\\b", "a\0", "C:a", "n" * 5000])
def test_what_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises((BadFile, NotFound)):
        file_in(tmp_path, name)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is missing"):
        file_in(tmp_path, "absent.json")
