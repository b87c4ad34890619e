from __future__ import annotations

import json
import threading
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from apportion.core.claim import Claim, Kind, Tier, total_by_tier
from apportion.core.errors import DoesNotFit
from apportion.core.units import GiB, MiB
from apportion.memory import Demand, Lease, Ledger

SMALL = st.integers(0, 40)
CLAIMS = st.lists(st.builds(Claim, st.sampled_from(Kind), SMALL, st.sampled_from(Tier)), max_size=4).map(
    tuple
)


def ram(nbytes: int) -> Ledger:
    return Ledger({Tier.RAM: nbytes})


def used(ledger: Ledger, tier: Tier = Tier.RAM) -> int:
    return ledger.account().tiers[tier].used


# --- granting and refusing --------------------------------------------------------------------------------


def test_a_lease_covers_several_kinds_and_tiers() -> None:
    ledger = Ledger({Tier.RAM: 100, Tier.GPU: 50})
    lease = ledger.reserve(Claim(Kind.KV, 40), Claim(Kind.WORKSPACE, 60), Claim(Kind.KV, 50, Tier.GPU))
    assert (used(ledger), used(ledger, Tier.GPU)) == (100, 50)
    assert (lease.nbytes(), lease.nbytes(Tier.GPU)) == (100, 50)
    assert ledger.account().tiers[Tier.RAM].by_kind == {Kind.KV: 40, Kind.WORKSPACE: 60}


def test_nothing_is_taken_of_any_tier_when_one_has_not_enough() -> None:
    ledger = Ledger({Tier.RAM: 100, Tier.GPU: 50})
    with pytest.raises(DoesNotFit):
        ledger.reserve(Claim(Kind.KV, 40), Claim(Kind.KV, 51, Tier.GPU))
    assert (used(ledger), used(ledger, Tier.GPU)) == (0, 0)
    assert ledger.account().num_leases == 0


def test_a_refusal_names_the_numbers_and_the_smallest_budget_that_would_do() -> None:
    ledger = ram(4 * GiB)
    ledger.reserve(Claim(Kind.DENSE_WEIGHTS, 3 * GiB))
    with pytest.raises(DoesNotFit) as caught:
        ledger.reserve(Claim(Kind.KV, 2 * GiB))
    numbers = caught.value.numbers
    assert (numbers["need"], numbers["have"], numbers["limit"]) == (2 * GiB, GiB, 4 * GiB)
    assert numbers["smallest"] == 5 * GiB
    assert numbers["used"] == {"dense_weights": 3 * GiB}
    assert "kv" in caught.value.what
    assert "5 GiB" in caught.value.hint
    ledger.set_limit(Tier.RAM, 5 * GiB)
    ledger.reserve(Claim(Kind.KV, 2 * GiB))


def test_a_tier_that_is_not_named_has_nothing() -> None:
    with pytest.raises(DoesNotFit):
        ram(100).reserve(Claim(Kind.KV, 1, Tier.GPU))


def test_who_can_go_on_without_gets_none() -> None:
    ledger = ram(10)
    assert ledger.try_reserve(Claim(Kind.KV, 11)) is None
    assert not ledger.can_reserve(Claim(Kind.KV, 11))
    assert ledger.can_reserve(Claim(Kind.KV, 10))
    assert ledger.try_reserve(Claim(Kind.KV, 10)) is not None


def test_refusals_are_counted_by_kind() -> None:
    ledger = ram(10)
    for _ in range(3):
        ledger.try_reserve(Claim(Kind.KV, 11))
    assert ledger.account().tiers[Tier.RAM].refusals == {Kind.KV: 3}


# --- changing ---------------------------------------------------------------------------------------------


def test_a_lease_grows_shrinks_and_is_as_it_was_when_it_may_not_grow() -> None:
    ledger = ram(100)
    lease = ledger.reserve(Claim(Kind.KV, 50))
    lease.rearrange(Claim(Kind.KV, 100))
    with pytest.raises(DoesNotFit):
        lease.rearrange(Claim(Kind.KV, 101))
    assert lease.claims == (Claim(Kind.KV, 100),)
    lease.rearrange(Claim(Kind.KV, 20))
    assert used(ledger) == 20
    assert ledger.account().tiers[Tier.RAM].peak == 100


def test_bytes_move_between_tiers_in_one_step() -> None:
    ledger = Ledger({Tier.RAM: 10, Tier.GPU: 10})
    lease = ledger.reserve(Claim(Kind.KV, 10))
    lease.rearrange(Claim(Kind.KV, 10, Tier.GPU))
    assert (used(ledger), used(ledger, Tier.GPU)) == (0, 10)


def test_two_leases_trade_bytes_although_nothing_is_free() -> None:
    ledger = ram(100)
    slots = ledger.reserve(Claim(Kind.EXPERT_SLOTS, 60))
    kv = ledger.reserve(Claim(Kind.KV, 40))
    ledger.rearrange({slots: (Claim(Kind.EXPERT_SLOTS, 30),), kv: (Claim(Kind.KV, 70),)})
    assert ledger.account().tiers[Tier.RAM].by_kind == {Kind.EXPERT_SLOTS: 30, Kind.KV: 70}
    with pytest.raises(DoesNotFit):
        ledger.rearrange({slots: (Claim(Kind.EXPERT_SLOTS, 31),), kv: (Claim(Kind.KV, 70),)})
    assert (slots.nbytes(), kv.nbytes()) == (30, 70)


def test_releasing_twice_gives_back_once() -> None:
    ledger = ram(100)
    kept = ledger.reserve(Claim(Kind.KV, 30))
    with ledger.reserve(Claim(Kind.WORKSPACE, 70)) as lease:
        pass
    lease.release()
    assert used(ledger) == 30
    assert lease.claims == ()
    assert kept.nbytes() == 30


def test_a_released_lease_cannot_come_back() -> None:
    ledger = ram(100)
    lease = ledger.reserve(Claim(Kind.KV, 30))
    lease.release()
    with pytest.raises(AssertionError, match="released"):
        lease.rearrange(Claim(Kind.KV, 1))
    with pytest.raises(AssertionError, match="another"):
        ram(100).rearrange({ledger.reserve(): (Claim(Kind.KV, 1),)})


# --- limits that are lowered ------------------------------------------------------------------------------


def test_a_lowered_limit_asks_its_subscribers_in_order_until_it_holds() -> None:
    ledger = ram(100)
    slots = ledger.reserve(Claim(Kind.EXPERT_SLOTS, 60))
    kv = ledger.reserve(Claim(Kind.KV, 40))
    asked: list[tuple[str, Demand]] = []

    def give_slots(demand: Demand) -> None:
        asked.append(("slots", demand))
        slots.rearrange(Claim(Kind.EXPERT_SLOTS, max(20, slots.nbytes() - demand.nbytes)))

    def give_kv(demand: Demand) -> None:
        asked.append(("kv", demand))
        kv.rearrange(Claim(Kind.KV, kv.nbytes() - demand.nbytes))

    with ledger.subscribed(give_slots), ledger.subscribed(give_kv):
        assert ledger.set_limit(Tier.RAM, 70) == 0
        assert [who for who, _ in asked] == ["slots"]
        assert ledger.set_limit(Tier.RAM, 50) == 0
    assert asked[1:] == [("slots", Demand(Tier.RAM, 20, 50)), ("kv", Demand(Tier.RAM, 10, 50))]
    assert ledger.set_limit(Tier.RAM, 10) == 40
    assert len(asked) == 3


def test_what_nobody_gives_back_is_told_and_nothing_new_is_granted_meanwhile() -> None:
    ledger = Ledger({Tier.RAM: 100, Tier.GPU: 10})
    lease = ledger.reserve(Claim(Kind.KV, 80))
    assert ledger.set_limit(Tier.RAM, 50) == 30
    assert ledger.demand(Tier.RAM) == Demand(Tier.RAM, 30, 50)
    assert ledger.try_reserve(Claim(Kind.WORKSPACE, 1)) is None
    assert ledger.try_reserve(Claim(Kind.WORKSPACE, 1, Tier.GPU)) is not None
    lease.rearrange(Claim(Kind.KV, 70))  # still too much, but less
    assert ledger.set_limit(Tier.RAM, 50) == 20
    lease.release()
    assert ledger.demand(Tier.RAM) is None


def test_an_account_is_plain_json() -> None:
    ledger = ram(100)
    ledger.reserve(Claim(Kind.KV, 30))
    told = json.loads(json.dumps(ledger.account().to_dict()))
    assert told["ram"]["free"] == 70
    assert told["ram"]["by_kind"] == {"kv": 30}
    assert told["num_leases"] == 1


def test_threads_never_get_more_than_there_is() -> None:
    ledger = ram(64 * MiB)
    worst: list[int] = []

    def work(seed: int) -> None:
        for step in range(200):
            lease = ledger.try_reserve(Claim(Kind.KV, (seed * 37 + step) % 40 * MiB))
            if lease is not None:
                worst.append(used(ledger))
                lease.release()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < max(worst) <= 64 * MiB
    assert used(ledger) == 0


# --- any order of calls -----------------------------------------------------------------------------------


class LedgerMachine(RuleBasedStateMachine):
    """The ledger beside a plain dictionary of what each lease holds."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.limits = {Tier.GPU: 30, Tier.RAM: 100, Tier.DISK: 0}
        self.ledger = Ledger(self.limits)
        self.held: dict[Lease, tuple[Claim, ...]] = {}
        self.peak = Counter[Tier]()

    def total(self, held: dict[Lease, tuple[Claim, ...]]) -> Counter[Tier]:
        return Counter(total_by_tier(claim for claims in held.values() for claim in claims))

    def fits(self, wanted: dict[Lease, tuple[Claim, ...]]) -> bool:
        before, after = self.total(self.held), self.total(self.held | wanted)
        return all(after[tier] <= max(self.limits[tier], before[tier]) for tier in Tier)

    def change(self, wanted: dict[Lease, tuple[Claim, ...]]) -> None:
        if self.fits(wanted):
            self.ledger.rearrange(wanted)
            self.held |= wanted
        else:
            with pytest.raises(DoesNotFit):
                self.ledger.rearrange(wanted)

    @rule(target=leases, claims=CLAIMS)
    def reserve(self, claims: tuple[Claim, ...]) -> Lease:
        lease = self.ledger.try_reserve(*claims)
        assert (lease is not None) == self.fits({Lease(self.ledger): claims})
        if lease is None:
            lease = self.ledger.reserve()
            claims = ()
        self.held[lease] = claims
        return lease

    @rule(lease=leases, claims=CLAIMS)
    def rearrange(self, lease: Lease, claims: tuple[Claim, ...]) -> None:
        if not lease.released:
            self.change({lease: claims})

    @rule(one=leases, other=leases, claims=CLAIMS, more=CLAIMS)
    def trade(self, one: Lease, other: Lease, claims: tuple[Claim, ...], more: tuple[Claim, ...]) -> None:
        if not one.released and not other.released:
            self.change({one: claims, other: more})

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        lease.release()
        self.held.pop(lease, None)

    @rule(tier=st.sampled_from(Tier), nbytes=st.integers(0, 150))
    def set_limit(self, tier: Tier, nbytes: int) -> None:
        self.limits[tier] = nbytes
        assert self.ledger.set_limit(tier, nbytes) == max(0, self.total(self.held)[tier] - nbytes)

    @invariant()
    def the_account_is_the_sum_of_the_leases(self) -> None:
        account, total = self.ledger.account(), self.total(self.held)
        for tier in Tier:
            self.peak[tier] = max(self.peak[tier], total[tier])
            told = account.tiers[tier]
            assert (told.used, told.limit, told.peak) == (total[tier], self.limits[tier], self.peak[tier])
            assert sum(told.by_kind.values()) == told.used
            assert all(nbytes > 0 for nbytes in told.by_kind.values())
        assert account.num_leases == len(self.held)

    def teardown(self) -> None:
        for lease in self.held:
            lease.release()
        assert all(used(self.ledger, tier) == 0 for tier in Tier)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
