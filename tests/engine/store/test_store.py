"""The store on disk: what was put is there, now and after a restart, and everything else is a miss."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tests.engine.store.house import (
    BLOCK_NBYTES,
    FINGERPRINT,
    FOLDER,
    RECORD_NBYTES,
    TOKENS,
    chain,
    config,
    fill,
    get,
    num_found,
    payload_of,
    put,
    store,
)

from apportion.core.clock import RealClock, VirtualClock
from apportion.core.disk import RealDisk
from apportion.core.errors import DiskFault, InUse, UsageError
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.prefix.keys import fingerprint, root_key
from apportion.engine.store import KvStore
from apportion.engine.store.folder import SegmentName

BLOCKS = chain(1, 20)


def test_what_was_put_is_read_before_and_after_it_is_safe() -> None:
    kept = store(VirtualDisk(), config())
    for block in BLOCKS:
        assert put(kept, block)
        assert get(kept, block)
    assert kept.flush()
    assert all(get(kept, block) for block in BLOCKS)
    assert kept.counters.written == 20
    assert kept.counters.hits == 40
    assert len(kept) == 20


def test_a_restart_finds_everything_without_a_close() -> None:
    disk = VirtualDisk()
    kept = store(disk, config())
    for block in BLOCKS:
        put(kept, block)
    kept.flush()
    disk.crash()
    assert num_found(disk, BLOCKS, config()) == 20


def test_what_was_not_flushed_is_lost_and_nothing_else() -> None:
    disk = VirtualDisk()
    kept = store(disk, config())
    put(kept, BLOCKS[0])
    kept.flush()
    put(kept, BLOCKS[1])
    disk.crash()
    assert num_found(disk, BLOCKS, config()) == 1


def test_a_block_is_never_written_twice() -> None:
    disk = VirtualDisk()
    for _ in range(3):
        fill(disk, BLOCKS, config())
    with store(disk, config()) as kept:
        assert put(kept, BLOCKS[0])
        assert kept.counters.duplicates == 1
        assert kept.counters.nbytes_written == 0


def test_several_blocks_are_made_safe_at_once() -> None:
    with store(VirtualDisk(), config(queue_nbytes=32 * RECORD_NBYTES)) as kept:
        for block in BLOCKS[:8]:
            put(kept, block)
        kept.flush()
        assert kept.counters.commits == 1


def test_other_keys_are_misses() -> None:
    with store(VirtualDisk(), config()) as kept:
        put(kept, BLOCKS[0])
        assert not get(kept, BLOCKS[1])
        assert not kept.contains(BLOCKS[1].key)
        assert kept.counters.misses == 1


def test_what_is_removed_is_gone_also_after_a_restart() -> None:
    disk = VirtualDisk()
    with store(disk, config()) as kept:
        for block in BLOCKS:
            put(kept, block)
        assert kept.remove(BLOCKS[3].key)
        assert not kept.remove(BLOCKS[3].key)
        assert not get(kept, BLOCKS[3])
    with store(disk, config()) as kept:
        assert [get(kept, block) for block in BLOCKS].count(False) == 1
        assert put(kept, BLOCKS[3])
        assert get(kept, BLOCKS[3])
    assert num_found(disk, BLOCKS, config()) == 20


@pytest.mark.parametrize("changed", ["model", "tokenizer", "layout", "lineage", "size"])
def test_what_another_model_or_layout_wrote_is_a_miss_and_counted(changed: str) -> None:
    disk = VirtualDisk()
    fill(disk, BLOCKS, config())
    parts = ["model", "tokenizer", "f16", "exact"]
    names = ["model", "tokenizer", "layout", "lineage"]
    other = fingerprint(*(part + "x" * (name == changed) for part, name in zip(parts, names, strict=True)))
    nbytes = BLOCK_NBYTES + (changed == "size")
    with store(disk, config(fingerprint=other, block_nbytes=nbytes)) as kept:
        for block in BLOCKS:
            assert not kept.read_into(block.key, np.zeros(nbytes, np.uint8))
        assert kept.counters.foreign == 20
    assert num_found(disk, BLOCKS, config()) == 20


def test_two_salts_have_no_block_in_common() -> None:
    with store(VirtualDisk(), config()) as kept:
        for block in chain(5, 8, root_key(FINGERPRINT, "alice")):
            put(kept, block)
        assert not any(get(kept, block) for block in chain(5, 8, root_key(FINGERPRINT, "bob")))


def test_segments_of_another_version_are_left_alone_until_their_room_is_needed() -> None:
    disk = VirtualDisk()
    fill(disk, BLOCKS, config())
    for name in disk.listdir(FOLDER):
        parsed = SegmentName.parse(name)
        if parsed is not None:
            disk.rename(FOLDER / name, FOLDER / str(SegmentName(parsed.number, 9)))
    with store(disk, config()) as kept:
        assert not any(get(kept, block) for block in BLOCKS)
        assert kept.counters.foreign > 0
        assert kept.used_nbytes > 20 * RECORD_NBYTES
        more = chain(2, 200)
        for block in more:
            assert put(kept, block)
        kept.flush()
        assert kept.used_nbytes <= config().limit_nbytes
        assert not any("kv9" in name for name in disk.listdir(FOLDER))


def test_files_of_others_in_the_folder_are_not_touched() -> None:
    disk = VirtualDisk()
    for name in ("notes.txt", "segment-1.kv1", "segment-00000003.kv1.bak"):
        with disk.open(FOLDER / name, "create") as file:
            file.pwrite(b"mine", 0)
    fill(disk, BLOCKS, config())
    assert num_found(disk, BLOCKS, config()) == 20
    assert {"notes.txt", "segment-1.kv1", "segment-00000003.kv1.bak"} <= set(disk.listdir(FOLDER))


def test_a_queue_that_is_full_refuses_and_its_memory_does_not_grow(tmp_path: Path) -> None:
    gate = threading.Event()

    class Gated(RealDisk):
        def sync_folder(self, path: str | Path) -> None:
            gate.wait(20)
            super().sync_folder(path)

    kept = store(Gated(), config(), RealClock(), tmp_path, background=True)
    try:
        taken = [put(kept, block) for block in BLOCKS]
        assert taken == [True] * 4 + [False] * 16
        assert kept.counters.refused_queue == 16
        assert not kept.flush(timeout_s=0.01)
        assert all(get(kept, block) for block in BLOCKS[:4])
        assert not put(kept, BLOCKS[5], timeout_s=0.01)
    finally:
        gate.set()
    assert kept.flush()
    assert put(kept, BLOCKS[5], timeout_s=5.0)
    assert kept.close()


def test_it_writes_behind_in_a_thread_of_its_own(tmp_path: Path) -> None:
    with store(None, config(), RealClock(), tmp_path, background=True) as kept:
        for block in BLOCKS:
            assert put(kept, block, timeout_s=5.0)
        assert kept.flush()
        assert all(get(kept, block) for block in BLOCKS)
        assert kept.counters.written == 20
    assert num_found(None, BLOCKS, config(), tmp_path) == 20


def test_readers_of_several_threads_get_what_they_asked_for(tmp_path: Path) -> None:
    blocks = chain(3, 60)
    with store(None, config(), RealClock(), tmp_path, background=True) as kept:
        failures: list[BaseException] = []

        def read() -> None:
            try:
                for _ in range(5):
                    for block in blocks:
                        get(kept, block)
            except BaseException as error:
                failures.append(error)

        for block in blocks:
            put(kept, block, timeout_s=5.0)
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for block in chain(4, 60):
            put(kept, block, timeout_s=5.0)
        for thread in threads:
            thread.join()
        assert not failures
        assert kept.counters.hits > 0


def test_a_limit_that_holds_too_few_blocks_is_refused_with_one_that_would_do() -> None:
    with pytest.raises(UsageError, match=r"too small.*give it"):
        config(7)
    assert config(8).segment_room == RECORD_NBYTES


def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskFault):
        store(None, config(), folder=tmp_path / "file" / "store")
    with pytest.raises(DiskFault):
        store(FaultyDisk(VirtualDisk(), NthCall(0, Fault.IO_ERROR, "list"), VirtualClock()), config())


def test_an_opening_that_fails_leaves_the_lock_to_others() -> None:
    disk = VirtualDisk()
    with pytest.raises(DiskFault):
        store(FaultyDisk(disk, NthCall(0, Fault.IO_ERROR, "list"), VirtualClock()), config())
    store(disk, config()).close()


def test_a_second_writer_is_refused() -> None:
    disk = VirtualDisk()
    kept = store(disk, config())
    with pytest.raises(InUse, match="another process writes"):
        store(disk, config())
    kept.close()
    store(disk, config()).close()


def test_after_closing_everything_is_a_miss_and_nothing_is_taken() -> None:
    kept = store(VirtualDisk(), config())
    put(kept, BLOCKS[0])
    assert kept.close()
    assert kept.close()
    assert not put(kept, BLOCKS[1])
    assert not get(kept, BLOCKS[0])
    assert kept.counters.refused_off == 1


def test_stuck_reads_make_the_store_count_as_empty_until_they_come_back(tmp_path: Path) -> None:
    clock, gate, begun = VirtualClock(), threading.Event(), threading.Event()
    disk = VirtualDisk()
    fill(disk, BLOCKS, config())
    kept = store(disk, config(), clock)
    whole = kept._opened.files.borrow

    def stuck(number: int):  # type: ignore[no-untyped-def]
        begun.set()
        gate.wait(20)
        return whole(number)

    kept._opened.files.borrow = stuck  # type: ignore[method-assign]
    thread = threading.Thread(target=get, args=(kept, BLOCKS[0]))
    thread.start()
    begun.wait(20)
    assert kept.contains(BLOCKS[1].key)
    clock.advance(60.0)
    assert not kept.contains(BLOCKS[1].key)
    assert not get(kept, BLOCKS[1])
    gate.set()
    thread.join()
    assert kept.contains(BLOCKS[1].key)
    assert get(kept, BLOCKS[1])


def test_a_block_that_ends_within_a_page_is_kept_as_it_is() -> None:
    assert BLOCK_NBYTES % 4096
    assert payload_of(b"0123456789abcdef").nbytes == BLOCK_NBYTES
    assert BLOCKS[1].num_before == TOKENS


def test_a_store_closed_by_its_block_lets_the_next_one_write(tmp_path: Path) -> None:
    with store(None, config(), RealClock(), tmp_path, background=True) as kept:
        assert isinstance(kept, KvStore)
    store(None, config(), folder=tmp_path).close()
