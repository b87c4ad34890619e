"""What each kind of failure becomes."""

from __future__ import annotations

import errno

import click
import pytest

from apportion.cli._failures import as_known, debugging
from apportion.core.errors import ApportionError, NotFound


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (NotFound("no such thing"), "not_found", "no such thing"),
        (click.BadParameter("must be small"), "usage", "must be small"),
        (click.FileError("a.txt", "is locked"), "usage", "is locked"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), "not_found", "a.txt"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), "disk_fault", "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "disk_fault", "operating system"),
        (MemoryError("no 4 GiB"), "does_not_fit", "out of memory"),
    ],
)
def test_a_foreseen_failure_has_its_place_in_the_error_tree(error: Exception, code: str, word: str) -> None:
    known = as_known(error)
    assert isinstance(known, ApportionError)
    assert known.code == code
    assert word in str(known)


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("without a number"), KeyError("x")])
def test_what_nobody_foresaw_has_none(error: Exception) -> None:
    assert as_known(error) is None


def test_a_faulty_settings_file_does_not_hide_the_failure_at_hand(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "apportion.toml").write_text("not toml at all")
    assert debugging() is False
