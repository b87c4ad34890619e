from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apportion import _native
from apportion.core.claim import Claim, Kind, Tier
from apportion.core.errors import DoesNotFit
from apportion.core.units import KiB, MiB, TiB
from apportion.memory import Arena, Demand, Ledger, Slot

PAGE = 4 * KiB


def used(ledger: Ledger) -> int:
    return ledger.account().tiers[Tier.RAM].used


def taken(arena: Arena) -> Slot:
    slot = arena.take()
    assert slot is not None
    return slot


def test_memory_is_aligned_to_huge_pages_and_slots_to_pages(ledger: Ledger) -> None:
    with Arena(ledger, Kind.EXPERT_SLOTS, 3 * PAGE - 1, 5) as arena:
        assert arena.slot_nbytes == 3 * PAGE
        views = [arena.view(taken(arena)) for _ in range(5)]
        addresses = sorted(view.ctypes.data for view in views)
        assert addresses[0] % (2 * MiB) == 0
        assert [address - addresses[0] for address in addresses] == [i * 3 * PAGE for i in range(5)]
        assert {view.nbytes for view in views} == {3 * PAGE}
        views.clear()


def test_the_ledger_the_arena_and_the_process_agree_to_the_byte(ledger: Ledger) -> None:
    before = _native.arena_nbytes()
    with Arena(ledger, Kind.EXPERT_SLOTS, 5 * PAGE, 333) as arena:
        assert arena.nbytes == used(ledger) == _native.arena_nbytes() - before == 5 * PAGE * 333
        assert arena.shrink(33) == 33
        assert arena.nbytes == used(ledger) == _native.arena_nbytes() - before == 5 * PAGE * 300
    assert used(ledger) == 0
    assert _native.arena_nbytes() == before
    assert _native.arena_peak_nbytes() >= before + 5 * PAGE * 333


def resident_nbytes() -> int:
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) * KiB for line in lines if line.startswith("Rss:"))


def test_memory_is_there_from_the_start_and_gone_at_once(ledger: Ledger) -> None:
    gc.collect()
    before = resident_nbytes()
    with Arena(ledger, Kind.EXPERT_SLOTS, MiB, 32) as arena:
        assert abs(resident_nbytes() - before - 32 * MiB) < 2 * MiB
        arena.shrink(16)
        assert abs(resident_nbytes() - before - 16 * MiB) < 2 * MiB
    assert abs(resident_nbytes() - before) < 2 * MiB


def test_a_released_slot_is_stale_also_when_its_room_is_taken_again(arena: Arena) -> None:
    slot = taken(arena)
    arena.release(slot)
    again = taken(arena)
    assert again.index == slot.index
    assert again != slot
    with pytest.raises(ValueError, match="released"):
        arena.view(slot)
    with pytest.raises(ValueError, match="released"):
        arena.release(slot)
    assert arena.view(again).nbytes == arena.slot_nbytes


def test_slots_do_not_overlap_and_what_is_written_stays(arena: Arena) -> None:
    slots = [taken(arena) for _ in range(8)]
    assert arena.take() is None
    for number, slot in enumerate(slots):
        arena.view(slot)[:] = number
    assert all(np.all(arena.view(slot) == number) for number, slot in enumerate(slots))


def test_what_does_not_fit_the_ledger_is_refused_and_takes_nothing(ledger: Ledger) -> None:
    with pytest.raises(DoesNotFit):
        Arena(ledger, Kind.EXPERT_SLOTS, MiB, 65)
    assert used(ledger) == 0


def test_what_the_system_refuses_gives_the_lease_back() -> None:
    ledger = Ledger({Tier.RAM: 10**6 * TiB})
    with pytest.raises(DoesNotFit, match="the system gives no"):
        Arena(ledger, Kind.EXPERT_SLOTS, TiB, 500)
    with pytest.raises(ValueError, match="out of range"):
        Arena(ledger, Kind.EXPERT_SLOTS, PAGE, 0)
    assert used(ledger) == 0


def test_an_arena_whose_memory_is_in_use_is_not_closed(arena: Arena, ledger: Ledger) -> None:
    view = arena.view(taken(arena))
    with pytest.raises(BufferError, match="1 arrays"):
        arena.close()
    assert used(ledger) == arena.nbytes > 0
    view[0] = 1
    del view
    arena.close()
    arena.close()
    assert used(ledger) == 0
    with pytest.raises(ValueError, match="closed"):
        arena.take()


def test_only_free_slots_are_given_back_and_the_ledger_limits_what_comes_again(
    arena: Arena, ledger: Ledger
) -> None:
    slots = [taken(arena) for _ in range(5)]
    arena.view(slots[4])[:] = 9
    assert arena.shrink(100) == 3
    assert (arena.num_slots, arena.num_free, arena.take()) == (5, 0, None)
    with ledger.reserve(Claim(Kind.KV, 64 * MiB - 6 * MiB)):
        with pytest.raises(DoesNotFit):
            arena.grow(2)
        assert arena.grow(1) == 1
    assert arena.grow(100) == 2
    assert (arena.num_slots, arena.num_free) == (8, 3)
    assert np.all(arena.view(slots[4]) == 9)


def test_a_limit_that_is_lowered_while_running_takes_free_slots_first_and_the_rest_later(
    ledger: Ledger, arena: Arena
) -> None:
    def give_back(demand: Demand) -> None:
        arena.shrink(-(-demand.nbytes // arena.slot_nbytes))

    slots = [taken(arena) for _ in range(6)]
    with ledger.subscribed(give_back):
        assert ledger.set_limit(Tier.RAM, 6 * MiB) == 0
        assert ledger.set_limit(Tier.RAM, 4 * MiB) == 2 * MiB  # all others are taken
        for slot in slots[:2]:
            arena.release(slot)
            demand = ledger.demand(Tier.RAM)
            assert demand is not None
            give_back(demand)
    assert ledger.demand(Tier.RAM) is None
    assert (arena.num_slots, used(ledger)) == (4, 4 * MiB)


class ArenaMachine(RuleBasedStateMachine):
    """Taking, releasing, shrinking and growing in any order, beside sets."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger({Tier.RAM: MiB})
        self.arena = Arena(self.ledger, Kind.EXPERT_SLOTS, PAGE, 6)
        self.taken: dict[Slot, int] = {}
        self.num_slots = 6
        self.stamp = 0

    @rule()
    def take(self) -> None:
        slot = self.arena.take()
        assert (slot is None) == (len(self.taken) == self.num_slots)
        if slot is not None:
            self.stamp = (self.stamp + 1) % 256
            assert slot.index not in {other.index for other in self.taken}
            self.arena.view(slot)[:] = self.stamp
            self.taken[slot] = self.stamp

    @precondition(lambda self: self.taken)
    @rule(choice=st.integers(0, 5))
    def release(self, choice: int) -> None:
        slot = sorted(self.taken, key=lambda slot: slot.index)[choice % len(self.taken)]
        del self.taken[slot]
        self.arena.release(slot)
        with pytest.raises(ValueError, match="released"):
            self.arena.view(slot)

    @rule(count=st.integers(0, 4))
    def shrink(self, count: int) -> None:
        given = self.arena.shrink(count)
        assert given == min(count, self.num_slots - len(self.taken))
        self.num_slots -= given

    @rule(count=st.integers(0, 4))
    def grow(self, count: int) -> None:
        grown = self.arena.grow(count)
        assert grown == min(count, 6 - self.num_slots)
        self.num_slots += grown

    @invariant()
    def everything_is_counted_and_nothing_is_overwritten(self) -> None:
        assert self.arena.num_slots == self.num_slots
        assert self.arena.num_free == self.num_slots - len(self.taken)
        assert used(self.ledger) == self.arena.nbytes == self.num_slots * PAGE
        for slot, stamp in self.taken.items():
            assert np.all(self.arena.view(slot) == stamp)

    def teardown(self) -> None:
        self.arena.close()
        assert used(self.ledger) == 0


TestArenaMachine = ArenaMachine.TestCase
TestArenaMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
