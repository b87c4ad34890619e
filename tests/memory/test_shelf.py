from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apportion import _native
from apportion._native import ExpertTable, LoadTimes
from apportion.core.claim import Kind, Tier
from apportion.core.errors import ApportionError, DiskFault, DiskStuck
from apportion.memory import (
    Arena,
    ExpertPlaces,
    Ledger,
    Part,
    RamShelf,
    Reader,
    ReadFault,
    Shelf,
    parts_in_a_row,
)

EXPERTS = 6
SIDE = 32
MATRIX = SIDE * SIDE * 4
SLOT = 16384
EDGES = (0.001, 1.0, 10.0)


def table_of(count: int) -> ExpertTable:
    matrix = (0, SIDE, SIDE)  # f32
    return ExpertTable(count, matrix, matrix, matrix, threads=1)


class Bench:
    """A file of experts, an arena of slots, and what the shelf under test tells."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path = folder / "experts.bin"
        rng = np.random.default_rng(1)
        self.path.write_bytes(rng.integers(0, 256, EXPERTS * 3 * MATRIX, np.uint8).tobytes())
        self._stack = stack
        self.times = LoadTimes(EDGES)
        self.table = table_of(EXPERTS)

    def places(self, file: int) -> list[ExpertPlaces]:
        found = []
        for expert in range(EXPERTS):
            parts = parts_in_a_row([(file, expert * 3 * MATRIX, 3 * MATRIX)])
            first = parts[0].first
            found.append(ExpertPlaces(parts, (first, first + MATRIX, first + 2 * MATRIX)))
        return found

    def shelf(self, num_slots: int = 3, faults: Sequence[ReadFault] = (), **options: Any) -> RamShelf:
        self.reader = self._stack.enter_context(Reader(faults=faults, **options))
        ledger = Ledger({Tier.RAM: 64 * SLOT})
        self.arena = self._stack.enter_context(Arena(ledger, Kind.EXPERT_SLOTS, 2 * SLOT, num_slots))
        self.places_read = self.places(self.reader.open(self.path))
        shelf = RamShelf(self.arena, self.reader, self.table, self.times, self.places_read)
        self._stack.callback(shelf.close)
        return shelf


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def come(shelf: Shelf) -> None:
    while shelf.num_coming:
        shelf.wait()


def test_an_expert_is_on_its_way_then_there_then_gone(bench: Bench) -> None:
    shelf = bench.shelf()
    assert shelf.start(4)
    assert (shelf.num_held, shelf.num_coming, shelf.here(())) == (1, 1, [])
    assert shelf.holds(4)
    assert not shelf.holds(3)
    assert not bench.table.holds(4)
    come(shelf)
    assert (shelf.num_held, shelf.num_coming, shelf.here(()), shelf.here((4,))) == (1, 0, [4], [])
    assert bench.table.holds(4)
    assert shelf.is_ready(4)
    assert not shelf.is_ready(3)
    shelf.give_up(4)
    assert (shelf.num_held, bench.arena.num_free) == (0, 3)
    assert not bench.table.holds(4)


def test_an_expert_of_no_slot_does_not_start(bench: Bench) -> None:
    shelf = bench.shelf(num_slots=2)
    assert [shelf.start(expert) for expert in (0, 1, 2)] == [True, True, False]
    come(shelf)
    assert not shelf.start(2)
    shelf.give_up(0)
    assert shelf.start(2)
    come(shelf)
    assert shelf.here(()) == [1, 2]


def test_what_is_asked_for_is_counted_as_there_or_not(bench: Bench) -> None:
    shelf = bench.shelf()
    shelf.start(1)
    come(shelf)
    shelf.start(2)
    assert shelf.ask((0, 1, 2)) == (1, [0])
    assert shelf.uses() == ([0, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0])
    come(shelf)  # the arena is not given back while something is read into it


def test_a_prefetch_that_is_asked_for_becomes_a_demand(bench: Bench) -> None:
    shelf = bench.shelf(num_slots=6, faults=[ReadFault(0, 4, delay_s=0.5)])
    for expert in range(5):  # half of the depth is for prefetches: the fifth waits
        assert shelf.start(expert, prefetch=True)
    while bench.reader.stats().num_calls + bench.reader.stats().num_in_flight < 4:
        time.sleep(0.001)
    began = time.perf_counter()
    shelf.ask((4,))
    while not shelf.is_ready(4):
        assert time.perf_counter() - began < 0.4
        time.sleep(0.001)
    come(shelf)


def test_what_has_come_by_itself_is_taken_in(bench: Bench) -> None:
    shelf = bench.shelf()
    shelf.start(5, prefetch=True)
    while not shelf.is_ready(5):
        time.sleep(0.001)
    assert shelf.here(()) == []
    shelf.take_in()
    assert shelf.here(()) == [5]
    assert bench.times.loads() == (0.0, [0, 0, 0, 0]), "nobody asked for it"


def test_times_are_counted_by_edges(bench: Bench) -> None:
    shelf = bench.shelf(faults=[ReadFault(0, delay_s=0.05)])
    shelf.start(0)
    come(shelf)
    total, counts = bench.times.loads()
    assert counts == [0, 1, 0, 0]
    assert 0.05 <= total < 1
    assert 0.04 < bench.times.stall_s <= total
    bench.times.add_load(10.0)
    bench.times.add_load(11.0)
    bench.times.add_stall(5.0)
    assert bench.times.loads()[1] == [0, 1, 1, 1]
    assert bench.times.stall_s > 5


def test_what_keeps_an_expert_away_is_told_once(bench: Bench) -> None:
    shelf = bench.shelf(faults=[ReadFault(0, 40, errno=errno.EACCES)])
    shelf.start(2)
    shelf.wait()
    assert shelf.has_failed
    failure = shelf.failure()
    assert failure is not None
    assert failure[0] == 2
    assert isinstance(failure[1], DiskFault)
    assert str(bench.path) in str(failure[1])
    assert shelf.failure() is None
    assert not shelf.has_failed
    assert (shelf.num_held, bench.arena.num_free) == (0, 3)


def test_the_slot_of_a_stuck_read_is_free_when_nothing_writes_to_it(bench: Bench) -> None:
    shelf = bench.shelf(num_slots=1, faults=[ReadFault(0, delay_s=0.4)], stuck_after_s=0.1)
    shelf.start(0)
    shelf.wait()
    failure = shelf.failure()
    assert failure is not None
    assert isinstance(failure[1], DiskStuck)
    assert shelf.settle()
    assert not shelf.start(1)
    until = time.perf_counter() + 5
    while shelf.settle():
        assert time.perf_counter() < until
        time.sleep(0.01)
    assert shelf.start(1)
    come(shelf)


def test_a_run_that_was_broken_off_loses_what_was_on_its_way(bench: Bench) -> None:
    shelf = bench.shelf(faults=[ReadFault(1, 1, delay_s=0.05)])
    shelf.start(3)
    come(shelf)
    shelf.start(0)
    bench.reader.forget_all()
    assert shelf.recover() == [0]
    assert (shelf.here(()), shelf.num_coming, bench.arena.num_free) == ([3], 0, 2)


def test_reads_that_were_forgotten_are_not_waited_for(bench: Bench) -> None:
    shelf = bench.shelf(faults=[ReadFault(0, delay_s=0.05)])
    shelf.start(0)
    bench.reader.forget_all()
    shelf.wait()
    assert shelf.has_failed


def test_another_thread_may_ask_what_is_there(bench: Bench) -> None:
    shelf, stop, seen = bench.shelf(num_slots=2), threading.Event(), set[int]()

    def watch() -> None:
        while not stop.is_set():
            seen.add(len(shelf.here(())))
            shelf.uses()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(300):
        _, missing = shelf.ask((turn % EXPERTS,))
        for expert in missing:
            if shelf.num_held == 2:
                shelf.give_up(shelf.here((expert,))[0])
            shelf.start(expert)
            come(shelf)
    stop.set()
    watcher.join()
    assert seen <= {0, 1, 2}
    hits, misses = shelf.uses()
    assert sum(hits) + sum(misses) == 300


def test_an_arena_that_a_shelf_uses_is_not_closed(bench: Bench) -> None:
    shelf = bench.shelf()
    with pytest.raises(BufferError):
        bench.arena.close()
    shelf.close()
    bench.arena.close()


@pytest.mark.parametrize(
    ("part", "starts", "why"),
    [
        (Part(0, EXPERTS * 3 * MATRIX - 1, 2), (0, 0, 0), "outside its file"),
        (Part(9, 0, 1), (0, 0, 0), "no file"),
        (Part(0, 0, MATRIX, 2 * SLOT), (0, 0, 0), "does not fit"),
        (Part(0, 0, MATRIX, 100), (0, 0, 0), "begin at a block"),
        (Part(0, 0, MATRIX), (0, 0, 2 * SLOT - MATRIX + 1), "too small"),
        (Part(0, 0, MATRIX), (1 << 62, 0, 0), "too small"),
    ],
)
def test_places_that_do_not_exist_are_refused(
    bench: Bench, part: Part, starts: tuple[int, int, int], why: str
) -> None:
    bench.shelf()
    places = [*bench.places_read[:-1], ExpertPlaces((part,), starts)]
    with pytest.raises(ValueError, match=why):
        RamShelf(bench.arena, bench.reader, table_of(EXPERTS), bench.times, places)


def test_what_is_not_there_is_refused(bench: Bench) -> None:
    shelf = bench.shelf()
    shelf.start(1)
    with pytest.raises(ValueError, match="not in memory"):
        shelf.give_up(1)
    with pytest.raises(ValueError, match="has a slot"):
        shelf.start(1)
    for act in (shelf.holds, shelf.start, shelf.give_up, shelf.is_ready):
        with pytest.raises(ValueError, match="no such expert"):
            act(EXPERTS)
    with pytest.raises(ValueError, match="no such expert"):
        shelf.ask((0, EXPERTS))
    with pytest.raises(ValueError, match="another number"):
        RamShelf(bench.arena, bench.reader, table_of(1), bench.times, bench.places_read)
    with pytest.raises(ValueError, match="has a shelf"):
        RamShelf(bench.arena, bench.reader, bench.table, bench.times, bench.places_read)
    come(shelf)
    shelf.close()
    with pytest.raises(ValueError, match="closed"):
        shelf.ask((0,))
    with pytest.raises(ValueError, match="closed"):
        shelf.let_go(3, ())


def test_a_reader_that_is_closed_reads_nothing_more(bench: Bench) -> None:
    shelf = bench.shelf()
    bench.reader.close()
    with pytest.raises(ValueError, match="closed"):
        shelf.start(0)
    assert bench.arena.num_free == 3


def test_edges_must_ascend() -> None:
    with pytest.raises(ValueError, match="ascend"):
        _native.LoadTimes((2.0, 1.0))


def test_errors_are_the_readers(bench: Bench) -> None:
    shelf = bench.shelf()
    bench.path.write_bytes(b"short")
    shelf.start(3)
    shelf.wait()
    failure = shelf.failure()
    assert failure is not None
    assert isinstance(failure[1], ApportionError)
    assert "too early" in str(failure[1]) or "changed" in str(failure[1])
