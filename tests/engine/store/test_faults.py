"""A disk that fails: every kind of fault at many calls. Nothing raises, nothing wrong is read, and when the
faults are over everything works.

Set APPORTION_LONG_TESTS to a number to have so many more calls of each kind.
"""

from __future__ import annotations

import os

import pytest
from tests.engine.store.house import Block, chain, config, fill, get, put, store

from apportion.core.clock import VirtualClock
from apportion.core.errors import ApportionError
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall, SeededFaults
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.store import KvStore, StoreConfig

CALLS = 12 + int(os.environ.get("APPORTION_LONG_TESTS", "0"))
KINDS = [(kind, None) for kind in Fault if kind is not Fault.SHORT]
KINDS += [(Fault.SHORT, "read"), (Fault.SHORT, "write")]
PASSING = {Fault.INTERRUPTED, Fault.SHORT, Fault.SLOW, Fault.STUCK}  # the work gets through these
OLD, NEW, MORE = chain(1, 6), chain(2, 8), chain(3, 16)


def limits(tight: bool) -> StoreConfig:
    return config(16 if tight else 64, writes_per_day_nbytes=10**9)


class Run:
    """A store's life on a disk that fails; `safe` is what it said was safe and was not in the way since."""

    def __init__(self, plan: NthCall | SeededFaults, tight: bool) -> None:
        self.config = limits(tight)
        self.inner = VirtualDisk()
        self.said: list[str] = []
        self.kept: KvStore | None = None
        self.safe: list[Block] = list(OLD)
        fill(self.inner, OLD, self.config)
        self.disk = FaultyDisk(self.inner, plan, VirtualClock())

    def run(self) -> None:
        try:
            self.kept = store(self.disk, self.config, say=self.said.append)
        except ApportionError:
            return  # opening may fail, and says so
        for blocks in (NEW, MORE):
            taken = [block for block in blocks if put(self.kept, block)]
            for block in OLD + NEW:
                get(self.kept, block)
            self.kept.remove(OLD[0].key)
            self.kept.flush()
            self.safe += [block for block in taken if block.key in self.kept._shelf]
        self.kept.close()

    def check(self) -> None:
        """The faults are over."""
        self.inner.crash()
        with store(self.inner, self.config) as kept:
            lost = [block for block in self.safe if not get(kept, block) and block is not OLD[0]]
            for block in chain(4, 20):
                assert put(kept, block)
            kept.flush()
            assert get(kept, chain(4, 20)[-1])
            assert kept.used_nbytes <= self.config.limit_nbytes
        if self.config.limit_nbytes == limits(False).limit_nbytes:
            assert not lost


def num_calls(kind: Fault, operation: str | None) -> int:
    """How many calls of an undisturbed life can meet this fault."""
    plan = NthCall(1 << 40, kind, operation)
    Run(plan, tight=True).run()
    return (1 << 40) - plan._left


@pytest.mark.parametrize(("kind", "operation"), KINDS, ids=str)
def test_a_fault_at_any_call_costs_at_most_blocks(kind: Fault, operation: str | None) -> None:
    most = num_calls(kind, operation)
    assert most > 0
    for i in range(CALLS):
        plan = NthCall(i * most // CALLS, kind, operation)
        run = Run(plan, tight=True)
        run.run()
        assert plan.broken
        assert len(run.said) <= 1
        if kind in PASSING and run.kept is not None:
            assert run.kept.counters.lost == 0
            assert not run.kept.why_off
        run.check()


@pytest.mark.parametrize(("kind", "operation"), KINDS, ids=str)
def test_what_was_said_to_be_safe_is_safe_through_faults(kind: Fault, operation: str | None) -> None:
    for i in range(0, CALLS, 2):
        run = Run(NthCall(3 * i, kind, operation), tight=False)
        run.run()
        run.check()


@pytest.mark.parametrize("seed", range(30))
def test_many_faults_at_once_are_lived_through(seed: int) -> None:
    run = Run(SeededFaults(seed, dict.fromkeys(Fault, 0.03)), tight=seed % 2 == 0)
    run.run()
    run.inner.crash()
    with store(run.inner, run.config) as kept:
        for block in OLD + NEW + MORE:
            get(kept, block)
        assert kept.used_nbytes <= run.config.limit_nbytes


@pytest.mark.parametrize("kind", [Fault.NO_SPACE, Fault.OVER_QUOTA, Fault.READ_ONLY])
def test_a_full_disk_ends_the_writing_once_said_and_reading_goes_on(kind: Fault) -> None:
    plan = NthCall(0, kind, "write")
    inner = VirtualDisk()
    fill(inner, OLD, config())
    said: list[str] = []
    kept = store(FaultyDisk(inner, plan, VirtualClock()), config(), say=said.append)
    for block in NEW:
        put(kept, block)
    kept.flush()
    assert kept.why_off
    assert len(said) == 1
    assert "takes nothing more" in said[0]
    assert kept.counters.lost > 0
    assert not put(kept, MORE[0])
    assert kept.counters.refused_off > 0
    assert all(get(kept, block) for block in OLD)
    kept.close()


def test_a_failed_sync_is_never_tried_again_on_the_same_segment() -> None:
    inner = VirtualDisk()
    disk = FaultyDisk(inner, NthCall(0, Fault.SYNC_ERROR, "sync"), VirtualClock())
    synced: list[str] = []
    kept = store(disk, config())
    plain = kept._writer._appender.sync  # type: ignore[union-attr]

    def watched() -> None:
        synced.append(str(kept._writer._appender.segment.name))  # type: ignore[union-attr]
        plain()

    kept._writer._appender.sync = watched  # type: ignore[union-attr, method-assign]
    disk._plan = NthCall(1, Fault.SYNC_ERROR, "sync")  # the first is the folder's
    put(kept, NEW[0])
    kept.flush()
    put(kept, NEW[1])
    kept.flush()
    assert kept.counters.poisoned == 1
    assert len(set(synced)) == len(synced) == 2
    assert not get(kept, NEW[0])
    assert get(kept, NEW[1])


def test_a_disk_that_fails_every_read_is_read_no_more() -> None:
    class Dead:
        def pick(self, operation: str) -> Fault | None:
            return Fault.IO_ERROR if operation == "read" and self.is_dead else None

        is_dead = False

    plan = Dead()
    inner = VirtualDisk()
    fill(inner, OLD, config())
    said: list[str] = []
    kept = store(FaultyDisk(inner, plan, VirtualClock()), config(), say=said.append)
    plan.is_dead = True
    for _ in range(5):
        assert not any(get(kept, block) for block in OLD)
    assert "is read no more" in said[0]
    assert len(said) == 1
    assert not kept.contains(OLD[0].key)
    assert kept.counters.read_faults == 16
