"""How long follow-ups of tool calls wait that find nothing of their context: what pins are worth by."""

from __future__ import annotations

import pytest
from tests.engine.scripted import BLOCK, ScriptedExecutor, make_pool, make_request

from apportion.core.clock import VirtualClock
from apportion.engine.engine import Engine
from apportion.engine.kv import KvSpace
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.reuse import PrefixReuse, Waits
from apportion.policies.retention import Pause
from apportion.policies.scheduler import SCHEDULERS

FIRST = list(range(12))


class Heard:
    """A retention that remembers what it was told."""

    def __init__(self) -> None:
        self.pauses: list[Pause] = []
        self.calls: list[tuple[str, float]] = []

    def time_to_live(self, pause: Pause) -> float:
        self.pauses.append(pause)
        return 0.0

    def tool_took(self, tool: str, seconds: float) -> None:
        self.calls.append((tool, seconds))

    def rank(self, view: object, now: float) -> tuple[float, ...]:
        return (0.0,)


def test_the_mean_of_the_last_ones() -> None:
    waits = Waits()
    for seconds in (1.0, 2.0, 6.0):
        waits.add(seconds)
    assert waits.mean_s == pytest.approx(3.0)
    for _ in range(1000):
        waits.add(8.0)
    assert waits.mean_s == pytest.approx(8.0, abs=0.01)


def test_a_follow_up_that_lost_its_context_counts_and_one_that_found_it_does_not() -> None:
    pool, clock, heard = make_pool(20), VirtualClock(), Heard()
    index = PrefixIndex(pool, heard, clock, BlockCost(), None, BLOCK)  # type: ignore[arg-type]
    reuse = PrefixReuse(index, pool, b"x", clock, BlockCost(), heard, block_tokens=BLOCK)  # type: ignore[arg-type]
    engine = Engine(
        ScriptedExecutor(pool),
        KvSpace(pool, index),
        SCHEDULERS.get("chunked").state(),
        block_tokens=BLOCK,
        reuse=reuse,
        clock=clock,
    )

    def turn(wait_s: float) -> None:
        request = engine.add(make_request(FIRST, 2, program="p", tool="search"))
        clock.advance(wait_s)
        while not request.is_over:
            engine.step()

    turn(1.0)
    clock.advance(5.0)
    turn(2.0)
    assert heard.calls == [("search", 5.0)], "the tool's own time, without waiting for room"
    index.drop({block.key for block in index.blocks()})
    turn(3.0)
    turn(4.0)
    assert [pause.mean_wait_s for pause in heard.pauses] == [0.0, 0.0, 3.0, 3.0]


def test_programs_that_never_come_back_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apportion.engine.prefix.reuse.MOST_PAUSED", 2)
    pool, clock, heard = make_pool(20), VirtualClock(), Heard()
    index = PrefixIndex(pool, heard, clock, BlockCost(), None, BLOCK)  # type: ignore[arg-type]
    reuse = PrefixReuse(index, pool, b"x", clock, BlockCost(), heard, block_tokens=BLOCK)  # type: ignore[arg-type]
    for number in range(5):
        reuse.finished(make_request(FIRST, 2, program=f"p{number}", tool="search"))
    assert list(reuse._paused) == ["p3", "p4"]
