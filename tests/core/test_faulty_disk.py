from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.core.clock import VirtualClock
from apportion.core.disk import read_exactly, write_all
from apportion.core.errors import ApportionError, DiskFault, NotFound
from apportion.core.faulty_disk import (
    POSSIBLE,
    SLOW_S,
    STUCK_S,
    Fault,
    FaultPlan,
    FaultyDisk,
    NthCall,
    SeededFaults,
)
from apportion.core.virtual_disk import VirtualDisk

PATH = Path("/m/a")
DATA = bytes(range(200))


class Never:
    def pick(self, operation: str) -> Fault | None:
        return None


class Always:
    def __init__(self, kind: Fault) -> None:
        self.kind = kind

    def pick(self, operation: str) -> Fault | None:
        return self.kind if self.kind in POSSIBLE[operation] and operation != "open" else None


def faulty(plan: FaultPlan, clock: VirtualClock | None = None) -> FaultyDisk:
    inner = VirtualDisk()
    with inner.open(PATH, "create") as file:
        write_all(file, DATA, 0)
    return FaultyDisk(inner, plan, clock or VirtualClock())


def work(disk: FaultyDisk) -> bytes:
    """Something that uses every call of the port."""
    disk.make_folder("/m")
    lock = disk.lock("/locks/one")
    assert lock is not None
    lock.close()
    with disk.open(PATH, "write") as file:
        write_all(file, DATA, 10)
        file.fdatasync()
        buffer = bytearray(file.size)
        read_exactly(file, buffer, 0)
    disk.rename(PATH, "/m/b")
    disk.sync_folder("/m")
    assert disk.listdir("/m") == ["b"]
    assert disk.size("/m/b") == len(buffer)
    disk.remove("/m/b")
    return bytes(buffer)


def test_without_faults_it_is_the_disk_inside() -> None:
    disk = faulty(Never())
    assert work(disk) == DATA[:10] + DATA
    assert disk.injected == []


@pytest.mark.parametrize("kind", [Fault.SHORT, Fault.INTERRUPTED])
@pytest.mark.parametrize("n", range(6))
def test_the_loops_get_through_short_and_interrupted_calls(kind: Fault, n: int) -> None:
    assert work(faulty(NthCall(n, kind))) == DATA[:10] + DATA


def test_calls_that_are_always_short_still_come_to_an_end() -> None:
    assert work(faulty(Always(Fault.SHORT))) == DATA[:10] + DATA


def test_calls_that_are_always_interrupted_are_reported_in_the_end() -> None:
    disk = faulty(Always(Fault.INTERRUPTED))
    with disk.open(PATH, "write") as file:
        for call in (lambda: read_exactly(file, bytearray(4), 0), lambda: write_all(file, b"x", 0)):
            with pytest.raises(DiskFault) as caught:
                call()
            assert caught.value.numbers["errno"] == "EINTR"


@pytest.mark.parametrize("kind", [Fault.NO_SPACE, Fault.IO_ERROR, Fault.SYNC_ERROR, Fault.VANISHED])
def test_each_call_in_turn_fails_as_one_of_our_errors_naming_the_file(kind: Fault) -> None:
    for n in range(100):
        plan = NthCall(n, kind)
        disk = faulty(plan)
        try:
            work(disk)
        except ApportionError as error:
            assert isinstance(error, DiskFault | NotFound)
            assert "/m" in error.what or "/locks" in error.what
            assert len(disk.injected) == 1
        else:
            assert not plan.broken
            break
    else:
        pytest.fail("the work never ran through")
    assert n >= 1


def test_a_fault_at_a_read_names_the_offset() -> None:
    disk = faulty(NthCall(0, Fault.IO_ERROR, "read"))
    with disk.open(PATH) as file, pytest.raises(DiskFault) as caught:
        file.pread(1, 77)
    assert caught.value.numbers == {"errno": "EIO", "offset": 77}
    assert disk.injected == [("read", PATH, Fault.IO_ERROR)]


def test_a_file_that_vanishes_goes_stale_when_open_and_missing_when_not() -> None:
    disk = faulty(NthCall(0, Fault.VANISHED, "read"))
    with disk.open(PATH) as file, pytest.raises(DiskFault) as caught:
        file.pread(1, 0)
    assert caught.value.numbers["errno"] == "ESTALE"
    with pytest.raises(NotFound):
        faulty(NthCall(0, Fault.VANISHED, "open")).open(PATH)


def test_a_slow_call_takes_its_time_and_succeeds() -> None:
    clock = VirtualClock()
    disk = faulty(NthCall(0, Fault.SLOW, "read"), clock)
    with disk.open(PATH) as file:
        assert file.path == PATH
        assert file.pread(3, 0) == DATA[:3]
    assert clock.now() == SLOW_S


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_the_same_seed_breaks_the_same_calls(seed: int) -> None:
    def run() -> tuple[list[tuple[str, Path, Fault]], str]:
        disk = faulty(SeededFaults(seed, dict.fromkeys(Fault, 0.02)))
        try:
            work(disk)
        except ApportionError as error:
            return disk.injected, str(error)
        return disk.injected, ""

    assert run() == run()


def test_a_stuck_call_keeps_its_caller_waiting() -> None:
    clock = VirtualClock()
    disk = faulty(NthCall(0, Fault.STUCK, "sync"), clock)
    with disk.open(PATH, "write") as file:
        file.fdatasync()
    assert clock.now() == STUCK_S


def test_every_possible_fault_comes_up() -> None:
    injected = set()
    for seed in range(900):
        disk = faulty(SeededFaults(seed, dict.fromkeys(Fault, 0.02)))
        with suppress(ApportionError):
            work(disk)
        injected |= {(operation, kind) for operation, _, kind in disk.injected}
    assert injected == {(operation, kind) for operation, kinds in POSSIBLE.items() for kind in kinds}
