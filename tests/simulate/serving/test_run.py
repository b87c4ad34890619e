"""Seeds keep every rule, and an engine that breaks one is caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apportion.core.errors import DiskFault
from apportion.engine.completion import Delta
from apportion.engine.engine import Engine
from apportion.engine.kv import BlockPool
from apportion.engine.occupancy import Occupancy
from apportion.engine.prefix.index import PrefixIndex
from apportion.simulate.serving.judge import Violation
from apportion.simulate.serving.run import Outcome, simulate
from apportion.simulate.serving.scenario import Scenario, scenario_of
from apportion.simulate.serving.scripted import END, answer_alone, next_token

NUM_SEEDS, PER_TEST = 300, 20


@pytest.mark.parametrize("first", range(0, NUM_SEEDS, PER_TEST))
def test_every_seed_keeps_every_rule(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        simulate(scenario_of(seed))


@pytest.mark.parametrize("seed", [2059])
def test_what_a_seed_once_showed_stays_mended(seed: int) -> None:
    simulate(scenario_of(seed))


def test_a_seed_happens_the_same_way_every_time() -> None:
    assert simulate(scenario_of(7)) == simulate(scenario_of(7))
    assert scenario_of(7) != scenario_of(8)


def test_the_seeds_go_through_everything() -> None:
    total: dict[str, float] = {}
    for seed in range(40):
        outcome = simulate(scenario_of(seed))
        for name in Outcome.__slots__:  # type: ignore[attr-defined]
            total[name] = total.get(name, 0) + getattr(outcome, name)
    assert all(total.values()), total


def steady(seed: int, **changes: Any) -> Scenario:
    """A scenario in which nothing goes wrong and blocks are shared."""
    return replace(
        scenario_of(seed),
        retention="lru",
        errors=0.0,
        shrinks=(),
        restarts=(),
        scheduler="chunked",
        **changes,
    )


def run_all(scenarios: Iterable[Scenario]) -> None:
    for scenario in scenarios:
        simulate(scenario)


def leak(original: Callable[..., Any]) -> Callable[..., Any]:
    """Every 20th call does nothing."""
    calls = iter(range(1, 10**9))
    return lambda *args, **options: original(*args, **options) if next(calls) % 20 else None


def another_block(original: Callable[..., Any]) -> Callable[..., Any]:
    """What is held is a block away from what was found."""

    def hold(self: PrefixIndex, match: Any) -> Any:
        held = original(self, match)
        return held[1:] + held[:1]

    return hold


def twice(original: Callable[..., Any]) -> Callable[..., Any]:
    def choose(self: Engine, *args: Any) -> list[Delta]:
        deltas = original(self, *args)
        return deltas * 2

    return choose


def ignored(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: None


def too_much_reused(original: Callable[..., Any]) -> Callable[..., Any]:
    """A request believes that it has one token more than it has."""

    def admit(self: Occupancy, request: Any) -> int:
        found = original(self, request)
        request.num_computed += 1 if len(request.sequence.ids) > found + 1 else 0
        return found

    return admit


def stale(original: Callable[..., Any]) -> Callable[..., Any]:
    """A copy that does not happen leaves what was there."""
    return lambda self, source, target: None


@pytest.mark.parametrize(
    ("kind", "name", "broken", "complaint"),
    [
        (BlockPool, "release", leak, "blocks"),
        (BlockPool, "copy", stale, "another answer than alone"),
        (PrefixIndex, "hold", another_block, "another answer than alone|a block twice"),
        (Engine, "_choose", twice, "spoke after its end|other tokens than were told"),
        (Engine, "_drop_overdue", ignored, "spoke after it was cancelled|does not come to an end"),
        (Occupancy, "admit", too_much_reused, "another answer than alone|computed more"),
        (Occupancy, "leave", ignored, "."),
    ],
)
def test_an_engine_that_breaks_a_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    name: str,
    broken: Callable[[Callable[..., Any]], Callable[..., Any]],
    complaint: str,
) -> None:
    monkeypatch.setattr(kind, name, broken(getattr(kind, name)))
    with pytest.raises(Violation, match=complaint) as raised:
        run_all(steady(seed) for seed in range(40))
    assert f"apportion simulate --seed {raised.value.args[0].split()[1][:-1]}" in str(raised.value)


def test_an_error_that_leaves_half_a_step_behind_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that goes on as though a failed step had been carried out is caught."""
    original = Engine.step

    def step(self: Engine) -> Any:
        try:
            return original(self)
        except DiskFault:
            for request in self._inside.running.values():
                request.num_computed = min(request.num_computed + 1, len(request.sequence.ids) - 1)
            raise

    monkeypatch.setattr(Engine, "step", step)
    with pytest.raises(Violation):
        run_all(replace(steady(seed), errors=0.3) for seed in range(20))


def test_the_scripted_answer_depends_on_every_token() -> None:
    prompt = np.arange(10, dtype=np.int32)
    answer = answer_alone(prompt, 30)
    assert END not in answer
    assert answer[0] == next_token(prompt)
    for place in range(10):
        changed = prompt.copy()
        changed[place] += 1
        assert answer_alone(changed, 30) != answer
