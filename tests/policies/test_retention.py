"""Retention: every policy keeps to the common order, and ranks what is worth keeping as its name says."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.policies import RETENTIONS
from apportion.policies.retention import KeptView, Pause, RetentionState
from apportion.policies.retention.continuum import MOST_TOOLS

NAMES = list(RETENTIONS)
NOW = 1000.0
SECONDS = st.floats(0.0, NOW)
VIEWS = st.builds(
    KeptView,
    key=st.integers(0, 10**6),
    num_tokens=st.just(32),
    num_before=st.integers(0, 100).map(lambda n: 32 * n),
    nbytes=st.sampled_from([4096, 737_280]),
    last_use_s=SECONDS,
    num_uses=st.integers(1, 50),
    recompute_s=st.floats(1e-4, 10.0),
    reload_s=st.none() | st.floats(1e-4, 1.0),
    pinned_until_s=st.sampled_from([0.0, NOW - 1, NOW + 1, float("inf")]),
    priority=st.integers(-1, 2),
)
KEPT = st.lists(VIEWS, min_size=1, max_size=12, unique_by=lambda view: view.key)


def order(state: RetentionState, kept: list[KeptView]) -> list[int]:
    return [view.key for view in sorted(kept, key=lambda view: state.rank(view, NOW))]


@pytest.mark.parametrize("name", NAMES)
@given(kept=KEPT)
def test_what_is_pinned_goes_last_and_priority_comes_next(name: str, kept: list[KeptView]) -> None:
    by_key = {view.key: view for view in kept}
    went = [by_key[key] for key in order(RETENTIONS.get(name).state(), kept)]
    classes = [(view.pinned_until_s > NOW, view.priority) for view in went]
    assert classes == sorted(classes)


@pytest.mark.parametrize("name", NAMES)
@given(kept=KEPT, seed=st.integers(0, 99))
def test_the_order_in_which_blocks_are_named_says_nothing(name: str, kept: list[KeptView], seed: int) -> None:
    state = RETENTIONS.get(name).state()
    named = list(kept)
    Random(seed).shuffle(named)
    assert order(state, named) == order(state, kept)


@pytest.mark.parametrize("name", NAMES)
@given(view=VIEWS, later=st.floats(0.0, 100.0))
def test_a_later_use_makes_no_block_go_earlier(name: str, view: KeptView, later: float) -> None:
    state = RETENTIONS.get(name).state()
    used = replace(view, last_use_s=min(view.last_use_s + later, NOW), num_uses=view.num_uses + 1)
    assert state.worth(used, NOW) >= state.worth(view, NOW)


@pytest.mark.parametrize("name", NAMES)
@given(view=VIEWS)
def test_of_equals_the_deeper_goes_first(name: str, view: KeptView) -> None:
    state = RETENTIONS.get(name).state()
    deeper = replace(view, key=view.key + 1, num_before=view.num_before + 32)
    assert state.rank(deeper, NOW) < state.rank(view, NOW)


@pytest.mark.parametrize("name", NAMES)
@given(view=VIEWS)
def test_no_two_blocks_have_the_same_rank(name: str, view: KeptView) -> None:
    state = RETENTIONS.get(name).state()
    assert state.rank(view, NOW) != state.rank(replace(view, key=view.key + 1), NOW)


@pytest.mark.parametrize("name", NAMES)
def test_states_have_nothing_in_common(name: str) -> None:
    policy = RETENTIONS.get(name)
    one, other = policy.state(), policy.state()
    for _ in range(300):
        one.tool_took("t", 0.5)
    pause = Pause("t", 4000, recompute_s=3.0, mean_wait_s=0.0)
    assert other.time_to_live(pause) == policy.state().time_to_live(pause)


@pytest.mark.parametrize("name", NAMES)
@given(recompute=SECONDS, wait=SECONDS, durations=st.lists(SECONDS, max_size=20))
def test_a_time_to_live_is_a_number_of_seconds(
    name: str, recompute: float, wait: float, durations: list[float]
) -> None:
    state = RETENTIONS.get(name).state()
    for seconds in durations:
        state.tool_took("t", seconds)
    assert 0.0 <= state.time_to_live(Pause("t", 100, recompute, wait)) < float("inf")


def view(**changes: float) -> KeptView:
    plain = KeptView(1, 32, 0, 4096, last_use_s=NOW, num_uses=1, recompute_s=1.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_lru_goes_by_the_last_use_alone() -> None:
    state = RETENTIONS.get("lru").state()
    assert state.worth(view(last_use_s=5.0, num_uses=99, recompute_s=9.0), NOW) < state.worth(view(), NOW)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"recompute_s": 1.0}, {"recompute_s": 2.0}),
        ({"nbytes": 8192}, {"nbytes": 4096}),
        ({"reload_s": 0.1}, {}),
        ({"reload_s": 0.1}, {"reload_s": 0.2}),
        ({"last_use_s": NOW - 60}, {}),
        ({}, {"num_uses": 2}),
    ],
)
def test_cost_aware_keeps_what_saves_more_work_per_byte(
    less: dict[str, float], more: dict[str, float]
) -> None:
    state = RETENTIONS.get("cost_aware").state()
    assert state.worth(view(**less), NOW) < state.worth(view(**more), NOW)


def test_cost_aware_reads_nothing_that_is_quicker_to_compute() -> None:
    state = RETENTIONS.get("cost_aware").state()
    assert state.worth(view(reload_s=5.0), NOW) == state.worth(view(), NOW)


def test_the_worth_of_a_block_halves_in_the_time_that_was_set() -> None:
    state = RETENTIONS.choose("cost_aware:fade_s=10").state()
    assert state.worth(view(last_use_s=NOW - 10), NOW) == pytest.approx(state.worth(view(), NOW) / 2)


def continuum(text: str = "continuum:num_samples=4") -> RetentionState:
    return RETENTIONS.choose(text).state()


def pause(recompute_s: float, mean_wait_s: float = 0.0, tool: str = "t") -> Pause:
    return Pause(tool, 1000, recompute_s, mean_wait_s)


@given(durations=st.lists(st.floats(0.01, 20.0), min_size=4, max_size=30), gain=st.floats(0.01, 30.0))
def test_continuum_waits_as_long_as_trying_every_time_says(durations: list[float], gain: float) -> None:
    state = continuum()
    for seconds in durations:
        state.tool_took("t", seconds)

    def value(t: float) -> float:
        return sum(seconds <= t for seconds in durations) / len(durations) * gain - t

    chosen = state.time_to_live(pause(gain))
    assert chosen in (0.0, *durations)
    assert value(chosen) >= max(value(i * 0.01) for i in range(2001)) - 1e-9


@given(gain=st.floats(0.01, 100.0))
def test_with_few_calls_continuum_takes_them_for_exponential(gain: float) -> None:
    chosen = continuum().time_to_live(pause(gain))

    def value(t: float) -> float:
        return (1 - exp(-t)) * gain - t

    assert value(chosen) >= max(value(i * 0.01) for i in range(1000)) - 1e-9


def test_a_tool_that_is_always_long_is_not_waited_for() -> None:
    state = continuum()
    for _ in range(10):
        state.tool_took("t", 60.0)
    assert state.time_to_live(pause(3.0)) == 0.0


def test_a_long_tail_is_not_waited_for() -> None:
    state = continuum()
    for seconds in [0.2] * 9 + [50.0]:
        state.tool_took("t", seconds)
    assert state.time_to_live(pause(3.0)) == 0.2


def test_a_tool_with_few_calls_is_taken_for_like_the_others() -> None:
    state = continuum()
    for _ in range(10):
        state.tool_took("quick", 0.5)
    state.tool_took("new", 100.0)
    assert state.time_to_live(pause(3.0, tool="new")) == 0.5
    assert state.time_to_live(pause(3.0, tool="unheard of")) == 0.5


def test_long_queues_are_a_reason_to_wait() -> None:
    state = continuum()
    for _ in range(10):
        state.tool_took("t", 4.0)
    assert state.time_to_live(pause(3.0)) == 0.0
    assert state.time_to_live(pause(3.0, mean_wait_s=5.0)) == 4.0


def test_continuum_follows_a_tool_whose_calls_become_quicker() -> None:
    state = continuum()
    for seconds in [60.0] * 1000 + [1.0] * 1000:
        state.tool_took("t", seconds)
    assert state.time_to_live(pause(3.0)) == 1.0


def test_the_names_of_tools_take_a_bounded_room() -> None:
    state = continuum()
    for i in range(3 * MOST_TOOLS):
        state.tool_took(f"tool {i}", 1.0)
    assert len(state._tools) == MOST_TOOLS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "continuum:num_samples=0",
        "continuum:prior_s=0",
        "continuum:prior_s=nan",
        "continuum:memory=-1",
        "cost_aware:fade_s=0",
        "cost_aware:fade_s=nan",
    ],
)
def test_parameters_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        RETENTIONS.choose(text)
