"""Expert caches: every one keeps the rules, LRU and LFU are what their names say, none beats the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.policies import EXPERT_CACHES
from apportion.policies.expert_cache import ExpertCache

NAMES = list(EXPERT_CACHES)
TEXTS = [*NAMES, "lfu:while_resident=true", "lfu_aged:half_life=2", "lfu_aged:half_life=inf"]
NUM_EXPERTS = 12
ROUTES = st.lists(st.lists(st.integers(0, NUM_EXPERTS - 1), min_size=3, max_size=3, unique=True), max_size=60)
SLOTS = st.integers(3, NUM_EXPERTS)


def run(policy: ExpertCache, routes: Sequence[Sequence[int]], num_slots: int) -> tuple[int, list[int]]:
    """Hits, and who was given up in turn, of one layer that begins with empty slots."""
    state = policy.knowing(routes).state(NUM_EXPERTS, num_slots)
    residents: set[int] = set()
    hits, victims = 0, []
    for experts in routes:
        state.touch(experts)
        missing = [expert for expert in experts if expert not in residents]
        hits += len(experts) - len(missing)
        for expert in missing:
            if len(residents) == num_slots:
                spare = sorted(residents.difference(experts))
                leaving = state.leaving(spare)
                assert sorted(leaving) == spare
                victim = leaving[0]
                residents.remove(victim)
                state.forget(victim)
                victims.append(victim)
            residents.add(expert)
    return hits, victims


@pytest.mark.parametrize("text", TEXTS)
@given(routes=ROUTES, num_slots=SLOTS)
def test_all_residents_have_a_place_in_the_order(text: str, routes: list[list[int]], num_slots: int) -> None:
    run(EXPERT_CACHES.choose(text), routes, num_slots)


@pytest.mark.parametrize("text", TEXTS)
@given(routes=ROUTES, num_slots=SLOTS)
def test_the_same_routes_give_the_same_victims(text: str, routes: list[list[int]], num_slots: int) -> None:
    policy = EXPERT_CACHES.choose(text)
    assert run(policy, routes, num_slots) == run(policy, routes, num_slots)


@pytest.mark.parametrize("text", TEXTS)
@given(routes=ROUTES, residents=st.permutations(range(NUM_EXPERTS)), count=st.integers(1, NUM_EXPERTS))
def test_the_order_in_which_residents_are_named_says_nothing(
    text: str, routes: list[list[int]], residents: list[int], count: int
) -> None:
    policy = EXPERT_CACHES.choose(text).knowing(routes)
    states = [policy.state(NUM_EXPERTS, 4) for _ in range(2)]
    for experts in routes:
        for state in states:
            state.touch(experts)
            state.forget(experts[0])
    named = residents[:count]
    assert list(states[0].leaving(named)) == list(states[1].leaving(sorted(named)))


@pytest.mark.parametrize("text", TEXTS)
@given(routes=ROUTES, residents=st.sets(st.integers(0, NUM_EXPERTS - 1)))
def test_using_some_does_not_change_the_order_of_the_others(
    text: str, routes: list[list[int]], residents: set[int]
) -> None:
    state = EXPERT_CACHES.choose(text).knowing(routes).state(NUM_EXPERTS, 4)
    for experts in routes:
        ahead = [one for one in state.leaving(sorted(residents)) if one not in experts]
        state.touch(experts)
        assert list(state.leaving(sorted(residents.difference(experts)))) == ahead
        for expert in ahead[:2]:
            state.forget(expert)


@pytest.mark.parametrize("text", TEXTS)
@given(routes=ROUTES, num_slots=SLOTS)
def test_no_policy_has_more_hits_than_the_oracle(text: str, routes: list[list[int]], num_slots: int) -> None:
    hits, _ = run(EXPERT_CACHES.choose(text), routes, num_slots)
    assert hits <= run(EXPERT_CACHES.get("belady"), routes, num_slots)[0]


@given(routes=ROUTES, num_slots=SLOTS)
def test_lru_gives_up_who_stands_last_in_a_list_of_last_uses(routes: list[list[int]], num_slots: int) -> None:
    recent: list[int] = []  # the last used first
    residents: set[int] = set()
    hits, victims = 0, []
    for experts in routes:
        recent = [*experts, *(other for other in recent if other not in experts)]
        for expert in experts:
            hits += expert in residents
            if expert not in residents and len(residents) == num_slots:
                victims.append([other for other in recent if other in residents and other not in experts][-1])
                residents.remove(victims[-1])
            residents.add(expert)
    assert run(EXPERT_CACHES.get("lru"), routes, num_slots) == (hits, victims)


@given(routes=ROUTES, num_slots=SLOTS)
def test_lfu_gives_up_who_has_the_fewest_uses(routes: list[list[int]], num_slots: int) -> None:
    used: list[int] = []
    residents: set[int] = set()
    hits, victims = 0, []
    for experts in routes:
        used += reversed(experts)
        for expert in experts:
            hits += expert in residents
            if expert not in residents and len(residents) == num_slots:
                spare = residents.difference(experts)
                victims.append(min(spare, key=lambda e: (used.count(e), used[::-1].index(e) * -1)))
                residents.remove(victims[-1])
            residents.add(expert)
    assert run(EXPERT_CACHES.get("lfu"), routes, num_slots) == (hits, victims)


def test_lfu_while_resident_forgets_what_was_used_before_an_expert_left() -> None:
    state = EXPERT_CACHES.choose("lfu:while_resident=true").state(4, 2)
    for experts in ([0], [0], [0], [1], [1]):
        state.touch(experts)
    assert state.leaving([0, 1])[0] == 1
    state.forget(0)
    state.touch([0])
    assert state.leaving([0, 1])[0] == 0


def test_with_ageing_old_uses_give_way_to_new_ones() -> None:
    plain, aged = (EXPERT_CACHES.choose(text).state(4, 2) for text in ("lfu", "lfu_aged:half_life=2"))
    for state in (plain, aged):
        for experts in [[0]] * 10 + [[1]] * 6:
            state.touch(experts)
    assert (plain.leaving([0, 1])[0], aged.leaving([0, 1])[0]) == (1, 0)


def test_ageing_goes_on_for_ever() -> None:
    state = EXPERT_CACHES.choose("lfu_aged:half_life=0.1").state(3, 2)
    for step in range(1000):
        state.touch([step % 3])
    assert [state.leaving([0, 1, 2])[0], state.leaving([0, 2])[0], state.leaving([2, 0])[0]] == [1, 2, 2]


def test_another_seed_gives_up_others() -> None:
    routes = [Random(step).sample(range(NUM_EXPERTS), 3) for step in range(40)]
    first, second = (run(EXPERT_CACHES.choose(f"random:seed={seed}"), routes, 4)[1] for seed in (0, 1))
    assert first != second


def test_the_oracle_gives_up_who_is_used_last_or_never() -> None:
    future = [[0, 1, 2], [3], [1], [0], [2]]
    state = EXPERT_CACHES.get("belady").knowing(future).state(4, 3)
    state.touch([0, 1, 2])
    state.touch([3])
    assert state.leaving([0, 1, 2])[0] == 2
    assert state.leaving([0, 1])[0] == 0
    assert state.leaving([0, 3])[0] == 3


def test_a_model_that_runs_cannot_ask_the_oracle() -> None:
    with pytest.raises(UsageError, match=r"belady runs in replay alone.*choose lru"):
        EXPERT_CACHES.get("belady").state(64, 32)
    assert [name for name in NAMES if EXPERT_CACHES.get(name).oracle] == ["belady"]


@pytest.mark.parametrize("name", NAMES)
def test_deciding_takes_microseconds(name: str) -> None:
    random = Random(1)
    routes = [random.sample(range(64), 8) for _ in range(300)]
    state = EXPERT_CACHES.get(name).knowing(routes).state(64, 32)
    residents = list(range(24))
    best = 1.0
    for experts in routes:
        start = perf_counter()
        state.touch(experts)
        state.leaving(residents)
        best = min(best, perf_counter() - start)
    assert best < 20e-6
