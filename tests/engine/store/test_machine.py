"""Any sequence of puts, reads, removals, restarts and power cuts, against a dictionary."""

from __future__ import annotations

import os
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.engine.store.house import FINGERPRINT, FOLDER, Block, chain, config, get, put, store

from apportion.core.clock import VirtualClock
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.prefix.keys import root_key
from apportion.engine.store import KvStore

ROOTS = [root_key(FINGERPRINT, salt) for salt in ("", "alice", "bob")]
BLOCKS: list[Block] = [block for root in ROOTS for block in chain(1, 8, root)]
SOME = st.integers(0, len(BLOCKS) - 1)
MORE = int(os.environ.get("APPORTION_LONG_TESTS", "0"))


class StoreMachine(RuleBasedStateMachine):
    """`safe` blocks must be found, `gone` ones must not, of the others either is right."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = VirtualDisk()
        self.clock = VirtualClock()
        self.safe: set[int] = set()
        self.gone = set(range(len(BLOCKS)))
        self.queued: set[int] = set()

    @initialize(num_records=st.sampled_from([10, 16, 40]), queue=st.integers(2, 6))
    def open(self, num_records: int, queue: int) -> None:
        self.config = config(num_records, queue_nbytes=queue * 12288)
        self.may_evict = num_records < len(BLOCKS) * 5 // 4
        self.kept: KvStore = store(self.disk, self.config, self.clock)

    @rule(number=SOME)
    def put(self, number: int) -> None:
        before = self.kept.counters.reclaimed
        assert put(self.kept, BLOCKS[number])
        assert self.kept.contains(BLOCKS[number].key)
        self.gone.discard(number)
        self.queued.add(number)
        self._see_evictions(before)

    @rule(number=SOME)
    def get(self, number: int) -> None:
        found = get(self.kept, BLOCKS[number])
        assert not (found and number in self.gone)
        assert found or number not in self.safe

    @rule()
    def flush(self) -> None:
        before = self.kept.counters.reclaimed
        assert self.kept.flush()
        self.safe |= self.queued
        self.queued.clear()
        self._see_evictions(before)

    @precondition(lambda self: self.safe)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.safe)))
        self.flush()
        if self.kept.remove(BLOCKS[number].key):
            self.flush()
            self.gone.add(number)
        self.safe.discard(number)

    @rule(seconds=st.floats(0.0, 1e5))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        self.flush()
        assert self.kept.close()
        self.kept = store(self.disk, self.config, self.clock)

    @rule(seed=st.none() | st.integers(0, 99))
    def cut_power(self, seed: int | None) -> None:
        self.disk.crash(None if seed is None else random.Random(seed))
        self.queued.clear()
        self.kept = store(self.disk, self.config, self.clock)

    @rule(number=SOME, seed=st.integers(0, 2**32))
    def rot(self, number: int, seed: int) -> None:
        """A bit of a payload flips on the disk."""
        entry = self.kept._shelf.get(BLOCKS[number].key)
        if entry is None:
            return
        path = self.kept._opened.space.path(self.kept._opened.space.segments[entry.segment])
        self.disk.flip_bit(path, entry.payload_offset + seed % 5000, seed % 8)
        self.safe.discard(number)

    @invariant()
    def the_files_stay_within_the_limit(self) -> None:
        if hasattr(self, "kept"):
            total = sum(self.disk.size(FOLDER / name) for name in self.disk.listdir(FOLDER))
            assert total <= self.kept.used_nbytes <= self.config.limit_nbytes

    @invariant()
    def what_is_known_adds_up(self) -> None:
        if hasattr(self, "kept"):
            segments = self.kept._opened.space.segments
            entries = [self.kept._shelf.get(key) for key in self.kept._shelf]
            assert all(entry and entry.segment in segments for entry in entries)
            assert not self.kept.why_off

    def teardown(self) -> None:
        if hasattr(self, "kept"):
            assert self.kept.close()

    def _see_evictions(self, reclaimed: int) -> None:
        if self.kept.counters.reclaimed > reclaimed:
            assert self.may_evict, "room was made that was not needed"
            self.safe = {number for number in self.safe if self.kept.contains(BLOCKS[number].key)}


StoreMachine.TestCase.settings = settings(
    max_examples=200 * (1 + MORE), stateful_step_count=60, deadline=None, derandomize=not MORE
)
TestStore = StoreMachine.TestCase
