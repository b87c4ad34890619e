"""The account of a day's writes: no day has more than its share, whatever happens to the process."""

from __future__ import annotations

from pathlib import Path

from tests.engine.store.house import RECORD_NBYTES, chain, config, put, store

from apportion.core.clock import VirtualClock
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.store.wear import DayAccount

DAY_S = 86_400.0


def account(disk: VirtualDisk, clock: VirtualClock, limit: int = 100) -> DayAccount:
    return DayAccount(disk, Path("/s"), clock, limit, step_nbytes=30)


def test_a_day_has_its_share_and_no_more() -> None:
    clock = VirtualClock()
    day = account(VirtualDisk(), clock)
    assert day.spend(60)
    assert not day.spend(41)
    assert day.left_nbytes == 40
    assert day.spend(40)
    assert not day.spend(1)
    clock.advance(DAY_S)
    assert day.left_nbytes == 100
    assert day.spend(100)


def test_a_restart_goes_on_with_the_day() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    day = account(disk, clock)
    day.spend(70)
    day.close()
    assert account(disk, clock).left_nbytes == 30


def test_a_crash_counts_what_was_claimed() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    for spent in (5, 10, 10, 10):
        account(disk, clock).spend(spent)
        disk.crash()
    assert account(disk, clock).left_nbytes <= 100 - 35


def test_a_clock_that_is_set_back_brings_no_day_back() -> None:
    disk, clock = VirtualDisk(), VirtualClock(wall=1e9)
    account(disk, clock).spend(100)
    assert account(disk, VirtualClock(wall=1e9 - 3 * DAY_S)).left_nbytes == 0


def test_what_was_read_back_is_what_was_written_for_large_numbers() -> None:
    disk, clock = VirtualDisk(), VirtualClock(wall=4e11)
    day = account(disk, clock, limit=10**15)
    day.spend(10**14)
    day.close()
    assert account(disk, clock, limit=10**15).left_nbytes == 9 * 10**14


def test_a_store_writes_no_more_than_a_day_has_and_goes_on_the_next() -> None:
    disk, clock = VirtualDisk(), VirtualClock()
    settings = config(64, writes_per_day_nbytes=5 * RECORD_NBYTES)
    for _ in range(2):
        with store(disk, settings, clock) as kept:
            for block in chain(1, 20):
                put(kept, block)
            kept.flush()
            assert len(kept) == 5
            assert not put(kept, chain(2, 1)[0])
    with store(disk, settings, clock) as kept:
        assert not put(kept, chain(2, 1)[0]) or not kept.flush() or len(kept) == 5
        clock.advance(DAY_S)
        assert put(kept, chain(2, 1)[0])
        kept.flush()
        assert len(kept) == 6
