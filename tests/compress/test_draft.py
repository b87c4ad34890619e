"""Packing that is interrupted: the next run goes on, and the file is the same to the byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.models.tiny import tiny_gguf

from apportion.compress.packing import pack, pack_checkpoint
from apportion.core.clock import VirtualClock
from apportion.core.disk import Disk
from apportion.core.errors import DiskFault, FileChanged
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.core.virtual_disk import VirtualDisk
from apportion.formats.gguf import open_gguf

KILLED = """
import os, signal, sys
from apportion import pack

def at_half(done, total):
    if done > total // 2:
        os.kill(os.getpid(), signal.SIGKILL)

pack(sys.argv[1], sys.argv[2], on_progress=at_half)
"""


def content(disk: Disk, path: Path) -> bytes:
    with disk.open(path) as file:
        return file.pread(file.size, 0)


def run(source: Path, out: Path, disk: Disk) -> int:
    with open_gguf(source) as checkpoint:
        return pack_checkpoint(checkpoint, out, disk=disk).resumed_nbytes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("mixtral", tmp_path_factory.mktemp("resuming"), block_format="q8_0")


@pytest.fixture(scope="module")
def whole(source: Path) -> bytes:
    disk, out = VirtualDisk(), source.with_name("whole.gguf")
    run(source, out, disk)
    return content(disk, out)


@pytest.mark.parametrize("kind", [Fault.IO_ERROR, Fault.NO_SPACE])
def test_after_any_failing_write_the_next_run_ends_with_the_same_bytes(
    kind: Fault, source: Path, whole: bytes, tmp_path: Path
) -> None:
    number, broken, resumed = 0, True, []
    while broken:
        disk, out = VirtualDisk(), tmp_path / "packed.gguf"
        plan = NthCall(number, kind, "write")
        try:
            run(source, out, FaultyDisk(disk, plan, VirtualClock()))
        except DiskFault as error:
            assert "packed.gguf.partial" in error.what
            assert out.name not in disk.listdir(tmp_path)
        broken = plan.broken
        if broken:
            resumed.append(run(source, out, disk))
        assert content(disk, out) == whole
        assert disk.listdir(tmp_path) == ["packed.gguf"]
        number += 5
    assert len(resumed) > 10
    assert max(resumed) > 0.8 * len(whole)


@pytest.mark.parametrize("seed", range(12))
def test_after_a_power_cut_the_next_run_ends_with_the_same_bytes(
    seed: int, source: Path, whole: bytes, tmp_path: Path
) -> None:
    disk, out, rng = VirtualDisk(), tmp_path / "packed.gguf", random.Random(seed)
    plan = NthCall(rng.randrange(90), Fault.IO_ERROR)
    with pytest.raises(DiskFault):
        run(source, out, FaultyDisk(disk, plan, VirtualClock()))
    disk.crash(rng)
    assert out.name not in disk.listdir(tmp_path)
    run(source, out, disk)
    disk.crash()
    assert content(disk, out) == whole


@pytest.mark.parametrize("operation", ["open", "sync", "rename"])
def test_a_failing_end_leaves_no_output_and_can_be_repeated(
    operation: str, source: Path, whole: bytes, tmp_path: Path
) -> None:
    disk, out = VirtualDisk(), tmp_path / "packed.gguf"
    with pytest.raises(DiskFault):
        run(source, out, FaultyDisk(disk, NthCall(0, Fault.IO_ERROR, operation), VirtualClock()))
    assert out.name not in disk.listdir(tmp_path)
    run(source, out, disk)
    assert content(disk, out) == whole


def test_bytes_that_changed_in_the_draft_are_written_again(
    source: Path, whole: bytes, tmp_path: Path
) -> None:
    disk, out = VirtualDisk(), tmp_path / "packed.gguf"
    with pytest.raises(DiskFault):
        run(source, out, FaultyDisk(disk, NthCall(0, Fault.IO_ERROR, "rename"), VirtualClock()))
    for offset in range(40_000, len(whole), 9_999):
        disk.flip_bit(tmp_path / "packed.gguf.partial", offset)
    assert 0 < run(source, out, disk) < len(whole)
    assert content(disk, out) == whole


def test_a_draft_of_another_model_is_not_continued(tmp_path: Path) -> None:
    disk, out = VirtualDisk(), tmp_path / "packed.gguf"
    first = tiny_gguf("mixtral", tmp_path, seed=1)
    with pytest.raises(DiskFault):
        run(first, out, FaultyDisk(disk, NthCall(0, Fault.IO_ERROR, "rename"), VirtualClock()))
    second = tiny_gguf("mixtral", tmp_path, seed=2)
    os.utime(second, ns=(1, 1))
    assert run(second, out, disk) == 0
    expected = VirtualDisk()
    run(second, out, expected)
    assert content(disk, out) == content(expected, out)


def test_a_killed_process_is_continued(tmp_path: Path) -> None:
    source, out = tiny_gguf("mixtral", tmp_path), tmp_path / "packed.gguf"
    killed = subprocess.run([sys.executable, "-c", KILLED, source, out], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    packed = pack(source, out)
    assert 0.2 * packed.nbytes < packed.resumed_nbytes < packed.nbytes
    pack(source, tmp_path / "undisturbed.gguf")
    assert out.read_bytes() == (tmp_path / "undisturbed.gguf").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mixtral.gguf", "packed.gguf", "undisturbed.gguf",
    ]  # fmt: skip


def test_a_model_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    source, out = tiny_gguf("mixtral", tmp_path), tmp_path / "packed.gguf"
    with pytest.raises(FileChanged, match="pack it again"):
        pack(source, out, on_progress=lambda done, total: os.utime(source, ns=(1, 1)))
    assert not out.exists()
