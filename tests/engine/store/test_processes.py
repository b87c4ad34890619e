"""Several processes and one folder: one writes, others may read."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine.store.crash_child import LIMITS, NUM_BLOCKS, fill, hold, work
from tests.engine.store.house import FOLDER, chain, config, get, put, store

from apportion.core.clock import RealClock, VirtualClock
from apportion.core.errors import InUse, NotFound
from apportion.core.virtual_disk import VirtualDisk

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.engine.store.crash_child"])
BLOCKS = chain(1, 12)


def until(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.005)
    return False


def test_while_a_process_writes_another_is_refused_and_may_read(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "store"
    writer = SERVER.Process(target=hold, args=(str(folder), str(log)))
    writer.start()
    try:
        assert until(lambda: log.exists() and "removed" in log.read_text())
        with pytest.raises(InUse):
            store(None, LIMITS, RealClock(), folder)
        reader = store(None, LIMITS, RealClock(), folder, read_only=True)
        for _ in range(3):
            for seed in range(1, 40):
                for block in chain(seed, NUM_BLOCKS):
                    get(reader, block)  # never anything wrong, whatever is reclaimed meanwhile
        assert reader.counters.corrupt == 0
    finally:
        writer.kill()
        writer.join()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "store"
    writer = SERVER.Process(target=work, args=(str(folder), str(log), 1, 2000, ""))
    writer.start()
    assert until(lambda: log.exists() and "safe" in log.read_text())
    writer.kill()
    writer.join()
    store(None, LIMITS, RealClock(), folder).close()


def test_a_process_that_has_ended_leaves_the_lock(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "store"
    writer = SERVER.Process(target=work, args=(str(folder), str(log), 1, 1, ""))
    writer.start()
    writer.join(60)
    assert writer.exitcode == 0
    with store(None, LIMITS, RealClock(), folder) as kept:
        assert sum(get(kept, block) for block in chain(1, NUM_BLOCKS)) == NUM_BLOCKS - 1


def test_a_reader_finds_what_was_written_since_it_looked_last() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    writer = store(disk, config(), clock)
    reader = store(disk, config(), clock, read_only=True)
    for block in BLOCKS:
        put(writer, block)
        writer.flush()
        assert not get(reader, block)
        clock.advance(2.0)
        assert reader.contains(block.key)
        assert get(reader, block)


def test_a_reader_follows_a_segment_through_its_sealing() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    writer = store(disk, config(), clock)
    put(writer, BLOCKS[0])
    writer.flush()
    reader = store(disk, config(), clock, read_only=True)
    writer.close()
    assert get(reader, BLOCKS[0])


def test_a_reader_misses_what_was_reclaimed_and_nothing_else() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    writer = store(disk, config(16), clock)
    for block in BLOCKS:
        put(writer, block)
    writer.flush()
    reader = store(disk, config(16), clock, read_only=True)
    assert all(get(reader, block) for block in BLOCKS)
    for block in chain(2, 40):
        clock.advance(0.01)
        put(writer, block)
    writer.flush()
    clock.advance(2.0)
    reader.contains(b"?" * 16)
    assert not any(reader.contains(block.key) for block in BLOCKS)
    assert sum(get(reader, block) for block in chain(2, 40)) == len(writer)


def test_a_reader_changes_nothing() -> None:
    disk = VirtualDisk()
    writer = store(disk, config())
    put(writer, BLOCKS[0])
    writer.flush()
    before = {name: disk.size(FOLDER / name) for name in disk.listdir(FOLDER)}
    with store(disk, config(), read_only=True) as reader:
        assert not reader.takes_writes
        assert not put(reader, BLOCKS[1])
        assert reader.counters.refused_off == 1
        assert reader.remove(BLOCKS[0].key)
        assert reader.flush()
    assert before == {name: disk.size(FOLDER / name) for name in disk.listdir(FOLDER)}
    assert get(writer, BLOCKS[0])


def test_a_reader_of_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no such file") as caught:
        store(None, config(), folder=tmp_path / "nowhere", read_only=True)
    assert "nowhere" in str(caught.value)


def test_many_readers_and_a_writer_in_one_process_agree() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    writer = store(disk, config(), clock)
    readers = [store(disk, config(), clock, read_only=True) for _ in range(3)]
    for block in BLOCKS:
        put(writer, block)
    writer.flush()
    clock.advance(2.0)
    for reader in readers:
        assert all(get(reader, block) for block in BLOCKS)


def test_a_reader_lives_through_its_writer_being_killed_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    fill(folder, 1, lambda text: None)
    reader = store(None, LIMITS, RealClock(), folder, read_only=True)
    assert get(reader, chain(1, 1)[0])
    fill(folder, 2, lambda text: None)
    time.sleep(1.1)
    assert get(reader, chain(2, 1)[0])


def test_two_stores_in_two_folders_have_nothing_in_common() -> None:
    disk = VirtualDisk()
    one = store(disk, config(), folder=FOLDER / "one")
    other = store(disk, config(), folder=FOLDER / "other")
    put(one, BLOCKS[0])
    one.flush()
    assert not other.contains(BLOCKS[0].key)


def test_a_writer_that_is_refused_has_changed_nothing() -> None:
    disk = VirtualDisk()
    writer = store(disk, config())
    put(writer, BLOCKS[0])
    writer.flush()
    names = disk.listdir(FOLDER)
    with pytest.raises(InUse):
        store(disk, config(10))
    assert disk.listdir(FOLDER) == names
    assert put(writer, BLOCKS[1])
    writer.flush()
    assert get(writer, BLOCKS[1])
