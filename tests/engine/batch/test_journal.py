"""The file of answers: through crashes, power cuts, full disks, strangers and second writers."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import pytest

from apportion.core.clock import VirtualClock
from apportion.core.disk import RealDisk
from apportion.core.errors import ApportionError, BadFile, DiskFault, UsageError
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.batch.journal import Journal, Lock

PATH = Path("/batch/out.jsonl")


def answer(number: int) -> dict:
    body = {"model": "tiny", "text": f"é{number}" * 50}
    return {"id": f"r{number}", "custom_id": str(number), "response": {"body": body}, "error": None}


def content(disk: VirtualDisk) -> bytes:
    with disk.open(PATH) as file:
        return file.pread(1 << 20, 0)


def whole_ids(data: bytes) -> list[str]:
    assert data.endswith(b"\n") or not data
    return [json.loads(line)["id"] for line in data.splitlines()]


def test_answers_are_found_again() -> None:
    disk = VirtualDisk()
    with Journal(PATH, disk) as journal:
        assert (len(journal), journal.model) == (0, None)
        for number in range(3):
            journal.append(answer(number))
        assert "r1" in journal
    with Journal(PATH, disk) as journal:
        assert (len(journal), journal.model, "r2" in journal, "r3" in journal) == (3, "tiny", True, False)
        journal.append(answer(3))
    assert whole_ids(content(disk)) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("cut", range(1, 220, 17))
def test_a_line_that_was_broken_off_is_dropped(cut: int) -> None:
    disk = VirtualDisk()
    with Journal(PATH, disk) as journal:
        for number in range(3):
            journal.append(answer(number))
    data = content(disk)[:-cut]
    with disk.open(PATH, "create") as file:
        file.pwrite(data, 0)
    with Journal(PATH, disk) as journal:
        assert len(journal) == 2
        journal.append(answer(2))
    assert whole_ids(content(disk)) == ["r0", "r1", "r2"]


@pytest.mark.parametrize("seed", range(60))
def test_after_a_power_cut_what_was_synced_is_there_and_nothing_is_half(seed: int) -> None:
    rng, disk, synced = random.Random(seed), VirtualDisk(), set()
    journal = Journal(PATH, disk)
    for number in range(rng.randrange(1, 12)):
        journal.append(answer(number))
        if rng.random() < 0.4:
            journal.sync()
            synced = {f"r{n}" for n in range(number + 1)}
    disk.crash(rng)
    for _ in range(2):  # a crash in the middle of repairing is repaired, too
        with Journal(PATH, disk) as journal:
            found = set(whole_ids(content(disk)))
            assert synced <= found
            assert len(journal) == len(found)
        disk.crash(rng)


def test_every_single_fault_leaves_a_file_that_can_be_gone_on_with() -> None:
    for kind, number in product((Fault.IO_ERROR, Fault.NO_SPACE, Fault.SHORT, Fault.SYNC_ERROR), range(20)):
        disk, done = VirtualDisk(), 0
        faulty = FaultyDisk(disk, NthCall(number, kind), VirtualClock())
        try:
            with Journal(PATH, faulty) as journal:
                for place in range(4):
                    journal.append(answer(place))
                    journal.sync()
                    done = place + 1
        except ApportionError as error:
            assert isinstance(error, DiskFault)
        with Journal(PATH, disk) as journal:
            assert len(journal) >= done
            for place in range(4):
                if f"r{place}" not in journal:
                    journal.append(answer(place))
        assert whole_ids(content(disk)) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("text", ["hello\nworld\n", '{"a": 1}\n[2]\n', "x" * 5000 + "\n" + "y\n"])
def test_a_strangers_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(BadFile, match="no file of answers"):
        Journal(path)
    assert path.read_text() == text


def test_two_processes_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Lock(path), pytest.raises(UsageError, match="another process"):
        Lock(path)
    with Lock(path) as lock:
        path.write_text('{"broken')
        Journal(path, RealDisk()).close()  # which puts another file in its place
        lock.follow()
        with pytest.raises(UsageError):
            Lock(path)


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ApportionError):
        Lock(tmp_path / "none" / "out.jsonl")
