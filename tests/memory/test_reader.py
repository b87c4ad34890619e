from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion.core.claim import Kind
from apportion.core.errors import BadFile, DiskFault, DiskStuck, FileChanged, NotFound, Truncated
from apportion.core.units import KiB, MiB
from apportion.memory import Arena, Ledger, Part, Reader, ReadFault, Slot, Ticket, parts_in_a_row, room_for

from .conftest import SIZE

MakeReader = Callable[..., Reader]

STUCK_S = 0.15
LONGER_S = 1.5


def taken(arena: Arena) -> Slot:
    slot = arena.take()
    assert slot is not None
    return slot


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def wait_for_issue(reader: Reader) -> None:
    """Until what was submitted is on its way."""
    wait_until(lambda: reader.stats().num_in_flight > 0)


def read(reader: Reader, arena: Arena, *parts: Part) -> list[bytes]:
    """What lands in a slot for each of the parts."""
    slot = taken(arena)
    try:
        reader.wait(reader.submit(arena, slot, parts))
        view = arena.view(slot)
        return [view[part.first : part.first + part.nbytes].tobytes() for part in parts]
    finally:
        arena.release(slot)


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


# --- faults -----------------------------------------------------------------------------------------------

WHOLE = 700_000
PASSING = {
    "interrupted": ReadFault(0, errno=errno.EINTR),
    "try again": ReadFault(0, errno=errno.EAGAIN),
    "failing": ReadFault(0, errno=errno.EIO),
    "no memory": ReadFault(0, errno=errno.ENOMEM),
    "short": ReadFault(0, short=True),
    "slow": ReadFault(0, delay_s=0.05),
}


@pytest.mark.parametrize("kind", PASSING)
def test_each_call_in_turn_may_go_wrong_once_and_the_bytes_are_right(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes, kind: str
) -> None:
    fault = PASSING[kind]
    for call in range(12):
        broken = ReadFault(call, errno=fault.errno, short=fault.short, delay_s=fault.delay_s)
        reader = make_reader(chunk_nbytes=128 * KiB, faults=[broken])
        file = reader.open(path)
        assert read(reader, arena, Part(file, 777, WHOLE)) == [content[777 : 777 + WHOLE]]
        num_calls = reader.stats().num_calls
        reader.close()
        if num_calls <= call:
            break
    else:
        pytest.fail("the read never came to its end")
    assert call >= 6


def test_calls_that_are_always_short_still_come_to_an_end(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(faults=[ReadFault(0, 10**6, short=True)])
    assert read(reader, arena, Part(reader.open(path), SIZE - WHOLE, WHOLE)) == [content[-WHOLE:]]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINTR, errno.EAGAIN, errno.ESTALE])
def test_what_keeps_failing_is_reported_with_file_offset_and_calls(
    make_reader: MakeReader, arena: Arena, path: Path, number: int
) -> None:
    reader = make_reader(faults=[ReadFault(0, 10**6, errno=number)])
    slot = taken(arena)
    ticket = reader.submit(arena, slot, [Part(reader.open(path), 4321, 100)])
    with pytest.raises(DiskFault) as caught:
        reader.wait(ticket)
    assert str(path) in caught.value.what
    numbers = caught.value.numbers
    assert (numbers["errno"], numbers["offset"]) == (errno.errorcode[number], 4321)
    assert numbers["calls"] == {errno.EIO: 4, errno.ESTALE: 1}.get(number, 101)
    assert numbers["ticket"] == ticket
    assert reader.settled(ticket)
    assert reader.stats().num_failed == 1


def test_one_read_that_fails_leaves_the_others_alone(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(depth=1, faults=[ReadFault(1, errno=errno.EBADF)])
    file = reader.open(path)
    slots = [taken(arena) for _ in range(4)]
    tickets = [reader.submit(arena, slot, [Part(file, 0, 9000)]) for slot in slots]
    with pytest.raises(DiskFault):
        reader.wait(tickets[1])
    for number in (0, 2, 3):
        reader.wait(tickets[number])
        assert arena.view(slots[number])[:9000].tobytes() == content[:9000]


def test_when_a_stretch_fails_the_rest_of_its_read_is_not_issued(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(depth=1, chunk_nbytes=4 * KiB, faults=[ReadFault(2, errno=errno.EBADF)])
    slot = taken(arena)
    with pytest.raises(DiskFault):
        reader.wait(reader.submit(arena, slot, [Part(reader.open(path), 0, WHOLE)]))
    assert reader.stats().num_calls == 3


def test_a_read_that_is_stuck_fails_in_time_and_settles_later(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(stuck_after_s=STUCK_S, faults=[ReadFault(0, delay_s=LONGER_S)])
    file = reader.open(path)
    began = time.monotonic()
    ticket = reader.submit(arena, taken(arena), [Part(file, 0, 5000)])
    with pytest.raises(DiskStuck, match="stuck") as caught:
        reader.wait(ticket)
    assert STUCK_S <= time.monotonic() - began < LONGER_S
    assert caught.value.numbers["offset"] == 0
    assert not reader.settled(ticket)
    reader.wait(reader.submit(arena, taken(arena), [Part(file, 0, 5000)]))  # the others go on
    wait_until(lambda: reader.settled(ticket))


def test_what_is_queued_behind_a_stuck_read_fails_too_and_is_never_issued(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(depth=1, stuck_after_s=STUCK_S, faults=[ReadFault(0, delay_s=LONGER_S)])
    file = reader.open(path)
    tickets = [reader.submit(arena, taken(arena), [Part(file, 0, 5000)]) for _ in range(2)]
    for ticket in reversed(tickets):
        with pytest.raises(DiskStuck):
            reader.wait(ticket)
    assert reader.settled(tickets[1])
    wait_until(lambda: reader.settled(tickets[0]))
    assert reader.stats().num_calls == 1


def test_closing_does_not_wait_for_ever_and_memory_stays_until_the_read_is_over(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader(stuck_after_s=STUCK_S, faults=[ReadFault(0, delay_s=LONGER_S)])
    reader.submit(arena, taken(arena), [Part(reader.open(path), 0, 5000)])
    wait_for_issue(reader)
    began = time.monotonic()
    with pytest.raises(DiskStuck):
        reader.close()
    assert time.monotonic() - began < LONGER_S
    with pytest.raises(BufferError):
        arena.close()

    def closed() -> bool:
        with suppress(BufferError):
            arena.close()
            return True
        return False

    wait_until(closed)


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
    tasks, files = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        reader = make_reader()
        read(reader, arena, Part(reader.open(path), 0, 5000))
        reader.close()
    assert (len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))) == (tasks, files)


FAULTS = st.builds(
    ReadFault,
    call=st.integers(0, 40),
    count=st.integers(1, 6),
    errno=st.sampled_from([0, 0, errno.EINTR, errno.EAGAIN, errno.EIO, errno.EINVAL, errno.EBADF]),
    short=st.booleans(),
    delay_s=st.sampled_from([0.0, 0.0, 0.0, 0.002, 0.02]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, max_size=5), seed=st.integers(0, 2**32))
def test_whatever_goes_wrong_a_read_has_the_right_bytes_or_an_error_and_nothing_hangs(
    make_reader: MakeReader, ledger: Ledger, path: Path, content: bytes, faults: list[ReadFault], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    reader = make_reader(depth=3, chunk_nbytes=64 * KiB, stuck_after_s=0.01, faults=faults)
    file = reader.open(path)
    with Arena(ledger, Kind.EXPERT_SLOTS, MiB, 6) as arena:
        flying: dict[Ticket, tuple[Slot, Part]] = {}
        for _ in range(6):
            nbytes = int(draw.integers(1, 300_000))
            part = Part(file, int(draw.integers(0, SIZE - nbytes)), nbytes)
            slot = taken(arena)
            priority = "prefetch" if draw.random() < 0.5 else "demand"
            flying[reader.submit(arena, slot, [part], priority)] = (slot, part)
        for ticket, (slot, part) in flying.items():
            chance = draw.random()
            if chance < 0.2 and reader.cancel(ticket):
                continue
            if chance > 0.8:
                reader.promote(ticket)
            try:
                reader.wait(ticket)
            except DiskFault as error:
                assert str(path) in str(error)
            else:
                read_bytes = arena.view(slot)[part.first : part.first + part.nbytes].tobytes()
                assert read_bytes == content[part.offset : part.offset + part.nbytes]
        wait_until(lambda: all(map(reader.settled, flying)))
        reader.close()


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


# --- files that change ------------------------------------------------------------------------------------


def test_a_file_that_became_shorter_is_an_error_naming_it(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file = reader.open(path)
    os.truncate(path, 8000)
    with pytest.raises(Truncated, match=str(path)) as caught:
        read(reader, arena, Part(file, 4000, 9000))
    assert (caught.value.numbers["need"], caught.value.numbers["have"]) == (9000, 4000)
    with pytest.raises(FileChanged):  # whole, but nobody knows of which state
        read(reader, arena, Part(file, 0, 7000))


def test_a_file_that_was_written_to_is_never_read_as_if_nothing_had_been(
    make_reader: MakeReader, arena: Arena, path: Path
) -> None:
    reader = make_reader()
    file = reader.open(path)
    with path.open("r+b") as stream:
        stream.write(b"other")
    os.utime(path)  # within the clock's tick the system may not have noted it
    with pytest.raises(FileChanged, match=str(path)):
        read(reader, arena, Part(file, 0, 9000))


@pytest.mark.parametrize("replace", [os.replace, lambda new, old: os.unlink(old)])
def test_a_file_that_was_replaced_or_removed_goes_on_as_it_was(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes, replace: Callable[[Path, Path], None]
) -> None:
    reader = make_reader()
    file = reader.open(path)
    new = path.with_name("new.bin")
    new.write_bytes(bytes(SIZE))
    replace(new, path)
    assert read(reader, arena, Part(file, 100, 9000)) == [content[100:9100]]


# --- opening, and what the system refuses -----------------------------------------------------------------


def test_what_is_no_file_is_refused(make_reader: MakeReader, tmp_path: Path) -> None:
    reader = make_reader()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile):
        reader.open(tmp_path / "pipe")
    with pytest.raises(BadFile):
        reader.open(tmp_path)
    with pytest.raises(NotFound):
        reader.open(tmp_path / "none")


def test_an_opened_file_tells_what_it_was(make_reader: MakeReader, path: Path) -> None:
    reader = make_reader()
    status = path.stat()
    opened = reader.file(reader.open(path))
    assert (opened.path, opened.nbytes) == (path, status.st_size)
    assert (opened.device, opened.inode, opened.modified_ns) == (
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
    )


def test_a_file_system_that_refuses_direct_reads_is_read_through_the_cache_and_said_once(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(faults=[ReadFault(0, errno=errno.EINVAL)])
    file = reader.open(path)
    if not reader.file(file).direct:
        pytest.skip("needs a file system with direct reads")
    for _ in range(3):
        assert read(reader, arena, Part(file, 5, 9000)) == [content[5:9005]]
    assert not reader.file(file).direct
    assert [note for note in reader.notes if str(path) in note and "EINVAL" in note] == list(reader.notes)
    assert reader.stats().nbytes_buffered == reader.stats().nbytes_read > 0


def test_reading_through_the_cache_can_be_asked_for_and_needs_no_note(
    make_reader: MakeReader, arena: Arena, path: Path, content: bytes
) -> None:
    reader = make_reader(direct=False)
    file = reader.open(path)
    assert read(reader, arena, Part(file, SIZE - 9000, 9000)) == [content[-9000:]]
    assert not reader.file(file).direct
    assert reader.notes == ()


def cached_nbytes(path: Path) -> int:
    """Bytes of a file that the page cache holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED) as mapped:
        pages = ctypes.create_string_buffer(-(-SIZE // mmap.PAGESIZE))
        view = (ctypes.c_char * SIZE).from_buffer(mapped)
        assert libc.mincore(ctypes.addressof(view), SIZE, pages) == 0
        del view
        return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE


@pytest.mark.parametrize("direct", [True, False])
def test_what_was_read_is_not_in_the_page_cache(
    make_reader: MakeReader, ledger: Ledger, path: Path, content: bytes, direct: bool
) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_nbytes(path):
        pytest.skip("needs a file system whose cache can be emptied")
    reader = make_reader(direct=direct, chunk_nbytes=64 * KiB)
    file_number = reader.open(path)
    with Arena(ledger, Kind.EXPERT_SLOTS, 4 * MiB, 1) as arena:
        assert read(reader, arena, Part(file_number, 0, SIZE)) == [content]
    assert cached_nbytes(path) <= 64 * KiB


def test_a_file_system_that_refuses_to_open_directly_is_read_through_the_cache_and_said_once() -> None:
    refusing = Path("/proc/version")  # such a file system is everywhere
    if not refusing.exists():
        pytest.skip("needs /proc")
    with Reader() as reader:
        file = reader.open(refusing)
        assert not reader.file(file).direct
        assert [note for note in reader.notes if str(refusing) in note and "EINVAL" in note]


def test_where_the_kernel_gives_no_ring_threads_read_and_the_reader_says_so() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no ring without a descriptor
    try:
        with Reader() as reader:
            assert reader.backend == "threads"
            assert ["EMFILE" in note and "threads" in note for note in reader.notes] == [True]
        with pytest.raises(DiskFault, match="EMFILE"):
            Reader(backend="ring")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_can_be_asked_for_and_need_no_note() -> None:
    with Reader(backend="threads") as reader:
        assert reader.backend == "threads"
        assert reader.notes == ()
