from __future__ import annotations

import os
from pathlib import Path

import pytest

from apportion.hardware.storage import file_system


def device(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def fake(root: Path, path: Path, *, partition: bool = False) -> Path:
    number = device(path)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(
        f"1 0 9:9 / /other rw - xfs /dev/other rw\n"
        f"2 0 {number} /sub/folder /bound rw - ext4 /dev/nvme0n1 rw\n"
        f"3 0 {number} / /data rw shared:1 - ext4 /dev/nvme0n1 rw\ngarbage\n"
    )
    disk = root / "sys/devices/disk"
    queue = disk / "queue"
    queue.mkdir(parents=True)
    (queue / "rotational").write_text("0\n")
    (queue / "read_ahead_kb").write_text("128\n")
    target = disk / "part1" if partition else disk
    target.mkdir(exist_ok=True)
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block" / number).symlink_to(target)
    return root


@pytest.mark.parametrize("partition", [False, True])
def test_a_path_lies_on_a_device_with_its_settings(tmp_path: Path, partition: bool) -> None:
    found = file_system(tmp_path, fake(tmp_path / "root", tmp_path, partition=partition))
    assert (found.mount, found.kind, found.source) == ("/data", "ext4", "/dev/nvme0n1")
    assert (found.rotational, found.read_ahead_nbytes) == (False, 128 * 1024)
    assert found.device == device(tmp_path)
    assert found.free_nbytes >= 0


def test_what_the_system_does_not_tell_stays_open(tmp_path: Path) -> None:
    found = file_system(tmp_path, tmp_path / "nothing")
    assert (found.mount, found.kind, found.source, found.rotational) == ("", "", "", None)
    assert found.read_ahead_nbytes is None


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_system(tmp_path / "none")


def test_this_system_can_be_read(tmp_path: Path) -> None:
    assert file_system(tmp_path).device == device(tmp_path)
