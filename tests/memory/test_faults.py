"""The reader when calls fail, are short, slow or stuck."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.memory.reading import LONGER_S, SIZE, STUCK_S, MakeReader, read, taken, wait_for_issue, wait_until

from apportion.core.claim import Kind
from apportion.core.errors import DiskFault, DiskStuck
from apportion.core.units import KiB, MiB
from apportion.memory import Arena, Ledger, Part, ReadFault, Slot, Ticket

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
