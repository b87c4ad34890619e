from __future__ import annotations

from pathlib import Path

import pytest

from apportion.compress.alone import alone
from apportion.core.errors import DiskFault, LimitExceeded, NotFound


def test_two_at_once_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "packed.gguf"
    with alone(out), pytest.raises(LimitExceeded, match="another process"), alone(out):
        pass
    with pytest.raises(KeyError), alone(out):
        raise KeyError
    with alone(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".packed.gguf.lock").touch()
    with alone(tmp_path / "packed.gguf"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises((DiskFault, NotFound)), alone(tmp_path / "nowhere" / "packed.gguf"):
        pass
