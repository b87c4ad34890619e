from __future__ import annotations

import errno
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.memory.reading import LONGER_S, SIZE, MakeReader, read, taken, wait_for_issue, wait_until

from apportion.core.errors import DiskFault
from apportion.core.units import KiB, MiB
from apportion.memory import Arena, Part, ReadFault, parts_in_a_row, room_for

# --- right bytes at the right place -----------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_stretches_land_where_their_parts_say(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes, data: st.DataObject
) -> None:
    chunk = data.draw(st.sampled_from([4 * KiB, 64 * KiB, 4 * MiB]))
    reader = make_reader(chunk_nbytes=chunk, depth=data.draw(st.integers(1, 9)))
    file = reader.open(path)
    stretches = []
    for _ in range(data.draw(st.integers(0, 3))):
        offset = data.draw(st.integers(0, SIZE))
        stretches.append((file, offset, data.draw(st.integers(0, min(300 * KiB, SIZE - offset)))))
    parts = parts_in_a_row(stretches)
    assert read(reader, arena, *parts) == [content[part.offset : part.offset + part.nbytes] for part in parts]
    reader.close()


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 4097, SIZE - 1, SIZE - 5000, SIZE])
@pytest.mark.parametrize("nbytes", [0, 1, 4095, 4096, 4097])
def test_a_part_knows_its_first_byte_and_its_room(offset: int, nbytes: int) -> None:
    part = Part(0, offset, nbytes, 8192)
    assert part.first == 8192 + offset % 4096
    assert part.room == room_for(offset, nbytes)
    assert part.room % 4096 == 0
    assert nbytes + offset % 4096 <= part.room < nbytes + offset % 4096 + 4096


def test_bytes_beside_the_parts_of_a_slot_stay_as_they_are(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file = reader.open(path)
    slot = taken(arena)
    arena.view(slot)[:] = 0xAA
    part = Part(file, 10_000, 20_000, place=16 * KiB)
    reader.wait(reader.submit(arena, slot, [part]))
    view = arena.view(slot)
    assert np.all(view[: part.place] == 0xAA)
    assert np.all(view[part.place + part.room :] == 0xAA)


def test_several_files_are_read_into_one_slot(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    other = path.with_name("other.bin")
    other.write_bytes(content[::-1])
    reader = make_reader()
    parts = parts_in_a_row([(reader.open(path), 5, 9000), (reader.open(other), 6, 9000)])
    assert read(reader, arena, *parts) == [content[5:9005], content[::-1][6:9006]]


def test_many_reads_at_once_are_all_right_and_use_a_few_threads_only(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    before = len(os.listdir("/proc/self/task"))
    reader = make_reader(depth=3)
    file = reader.open(path)
    slots = [taken(arena) for _ in range(8)]
    offsets = [number * 311_111 for number in range(8)]
    for _ in range(5):
        tickets = [
            reader.submit(arena, slot, [Part(file, offset, 500_000)])
            for slot, offset in zip(slots, offsets, strict=True)
        ]
        assert len(os.listdir("/proc/self/task")) <= before + 4
        left = set(tickets)
        while left:
            ticket = reader.wait_any(sorted(left))
            assert ticket is not None
            left.remove(ticket)
            number = tickets.index(ticket)
            first = offsets[number] % 4096
            wanted = content[offsets[number] : offsets[number] + 500_000]
            assert arena.view(slots[number])[first : first + 500_000].tobytes() == wanted


def test_what_does_not_fit_is_refused_before_anything_is_read(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file, slot = reader.open(path), taken(arena)
    for part, problem in {
        Part(file, SIZE - 10, 11): "outside its file",
        Part(file, 2**63, 2**63): "outside its file",
        Part(file, 0, MiB + 1): "does not fit its slot",
        Part(file, 4000, MiB): "does not fit its slot",
        Part(file, 0, 10, place=MiB): "does not fit its slot",
        Part(file, 0, 10, place=100): "at a block",
        Part(file + 1, 0, 10): "no file",
    }.items():
        with pytest.raises(ValueError, match=problem):
            reader.submit(arena, slot, [part])
    arena.release(slot)
    with pytest.raises(ValueError, match="released"):
        reader.submit(arena, slot, [Part(file, 0, 10)])
    assert reader.stats().num_calls == 0


# --- order, cancelling, waiting ---------------------------------------------------------------------------


def test_demands_overtake_prefetches_and_promoted_prefetches_are_demands(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    # One at a time, the first held back while the others queue up; how each fails tells its place.
    faults = [ReadFault(0, delay_s=0.3), ReadFault(1, errno=errno.EBADF), ReadFault(2, errno=errno.EPERM)]
    reader = make_reader(depth=1, faults=faults)
    file = reader.open(path)
    first = reader.submit(arena, taken(arena), [Part(file, 0, 5000)])
    wait_for_issue(reader)
    prefetch = reader.submit(arena, taken(arena), [Part(file, 0, 5000)], "prefetch")
    promoted = reader.submit(arena, taken(arena), [Part(file, 0, 5000)], "prefetch")
    demand = reader.submit(arena, taken(arena), [Part(file, 0, 5000)], "demand")
    assert reader.promote(promoted)
    assert not reader.promote(demand)
    reader.wait(first)
    with pytest.raises(DiskFault, match="EBADF"):
        reader.wait(demand)
    with pytest.raises(DiskFault, match="EPERM"):
        reader.wait(promoted)
    reader.wait(prefetch)


def test_prefetches_leave_room_for_a_demand(make_reader: MakeReader, arena: Arena, path: Path) -> None:
    reader = make_reader(depth=2, faults=[ReadFault(0, delay_s=LONGER_S)])
    file = reader.open(path)
    slow = reader.submit(arena, taken(arena), [Part(file, 0, 5000)], "prefetch")
    wait_for_issue(reader)
    waiting = reader.submit(arena, taken(arena), [Part(file, 0, 5000)], "prefetch")
    began = time.monotonic()
    reader.wait(reader.submit(arena, taken(arena), [Part(file, 0, 5000)]))
    assert time.monotonic() - began < LONGER_S
    assert not reader.ready(waiting)
    assert reader.promote(waiting)
    reader.wait(waiting)
    assert time.monotonic() - began < LONGER_S
    reader.wait(slow)


def test_only_what_was_not_issued_can_be_cancelled(make_reader: MakeReader, arena: Arena, path: Path) -> None:
    reader = make_reader(depth=1, faults=[ReadFault(0, delay_s=0.2)])
    file, slot = reader.open(path), taken(arena)
    first = reader.submit(arena, slot, [Part(file, 0, 5000)])
    wait_for_issue(reader)
    later = taken(arena)
    arena.view(later)[:] = 0xAA
    second = reader.submit(arena, later, parts_in_a_row([(file, 0, 5000), (file, 0, 5000)]), "prefetch")
    assert not reader.cancel(first)
    assert reader.cancel(second)
    assert not reader.cancel(second)
    assert reader.settled(second)
    with pytest.raises(ValueError, match="no read is under way"):
        reader.wait(second)
    reader.wait(first)
    assert np.all(arena.view(later) == 0xAA)
    assert reader.stats().num_cancelled == 1
    assert reader.stats().num_calls == 1


def test_a_wait_may_end_before_the_read_and_be_taken_up_again(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(faults=[ReadFault(0, delay_s=0.3)])
    ticket = reader.submit(arena, taken(arena), [Part(reader.open(path), 0, 5000)])
    assert reader.wait_any([ticket], timeout_s=0.05) is None
    assert not reader.ready(ticket)
    assert reader.wait_any([ticket]) == ticket
    with pytest.raises(ValueError, match="no read is under way"):
        reader.wait(ticket)


def test_time_counts_as_reading_while_anything_is_in_flight(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(depth=2, faults=[ReadFault(0, delay_s=0.3), ReadFault(1, delay_s=0.3)])
    file = reader.open(path)
    time.sleep(0.1)
    assert reader.stats().reading_s == 0
    began = time.monotonic()
    both = [reader.submit(arena, taken(arena), [Part(file, 0, 5000)]) for _ in range(2)]
    wait_for_issue(reader)
    time.sleep(0.1)
    assert 0.1 <= reader.stats().reading_s <= time.monotonic() - began, "what goes on counts, too"
    for ticket in both:
        reader.wait(ticket)
    assert 0.3 <= (total := reader.stats().reading_s) <= time.monotonic() - began, "two at once count once"
    time.sleep(0.1)
    assert reader.stats().reading_s == total


def test_others_compute_while_one_waits(make_reader: MakeReader, arena: Arena, path: Path) -> None:
    reader = make_reader(faults=[ReadFault(0, delay_s=0.4)])
    ticket = reader.submit(arena, taken(arena), [Part(reader.open(path), 0, 5000)])
    waiter = threading.Thread(target=reader.wait, args=(ticket,))
    waiter.start()
    steps = 0
    while waiter.is_alive():
        steps += 1
    assert steps > 1000


def test_an_interrupt_from_the_keyboard_ends_a_wait(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(faults=[ReadFault(0, delay_s=LONGER_S)])
    ticket = reader.submit(arena, taken(arena), [Part(reader.open(path), 0, 5000)])
    began = time.monotonic()
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        reader.wait(ticket)
    assert time.monotonic() - began < LONGER_S


# --- closing --------------------------------------------------------------------------------------------


def test_closing_finishes_what_was_issued_and_fails_what_was_not(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(depth=1, faults=[ReadFault(0, delay_s=0.1)])
    file, slot = reader.open(path), taken(arena)
    issued = reader.submit(arena, slot, [Part(file, 0, 5000)])
    wait_for_issue(reader)
    queued = reader.submit(arena, taken(arena), [Part(file, 0, 5000)])
    reader.close()
    reader.close()
    reader.wait(issued)
    assert arena.view(slot)[:5000].tobytes() == content[:5000]
    with pytest.raises(DiskFault, match="ECANCELED"):
        reader.wait(queued)
    with pytest.raises(ValueError, match="closed"):
        reader.submit(arena, slot, [Part(file, 0, 5000)])


def test_closing_gives_back_threads_and_files(make_reader: MakeReader, arena: Arena, path: Path) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    before = held()
    for _ in range(5):
        reader = make_reader()
        read(reader, arena, Part(reader.open(path), 0, 5000))
        reader.close()
    wait_until(lambda: held() == before)  # a thread that was joined is in the list until the kernel buries it


def test_a_child_of_fork_can_leave_without_the_threads_that_it_does_not_have(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    read(reader, arena, Part(reader.open(path), 0, 5000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        child = os.fork()
    if child == 0:
        reader.close()
        os._exit(0)
    wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
    assert os.waitpid(child, 0) == (child, 0)
    read(reader, arena, Part(0, 0, 5000))
