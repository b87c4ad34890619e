"""The most urgent first, for whom the least urgent yield."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import cast

from apportion.core.errors import UsageError
from apportion.policies.scheduler import EngineView, RequestView, Scheduler, SchedulerState, Step, Yield
from apportion.policies.scheduler._compose import at_least, by_urgency


@dataclass(frozen=True, slots=True)
class Priority(Scheduler):
    """Serves the highest priority first; when room lacks for it, the lowest of those that run yield theirs.

    Among equals the earliest deadline is first, then the first to come. What yields is computed again later,
    or kept outside until then (`give_up=swap`). Steps are as in `chunked`, and hold whole prompts where
    weights come and go.

    Source: A. Shen et al., "FastSwitch: Optimizing Context Switching Efficiency in Fairness-aware Large
    Language Model Serving", arXiv:2411.18424 (2024); the two ways to yield: W. Kwon et al., "Efficient Memory
    Management for Large Language Model Serving with PagedAttention", SOSP 2023, arXiv:2309.06180.
    """

    tokens: int = 128
    give_up: str = "recompute"

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)
        if self.give_up not in ("recompute", "swap"):
            raise UsageError("give_up is recompute or swap", give_up=self.give_up)

    def state(self) -> SchedulerState:
        return PriorityState(self.tokens, cast(Yield, self.give_up))


class PriorityState(SchedulerState):
    """Nothing to remember."""

    def __init__(self, tokens: int, give_up: Yield) -> None:
        self._tokens, self._give_up = tokens, give_up

    def plan(self, view: EngineView) -> Step:
        victims = _victims(view)
        step = by_urgency(_without(view, victims), _urgency, self._tokens, tile=32)
        return step._replace(preempt=tuple((victim.id, self._give_up) for victim in victims))


def _urgency(request: RequestView) -> tuple[float, float, float, int]:
    deadline = inf if request.deadline_s is None else request.deadline_s
    return -request.priority, deadline, request.arrival_s, request.id


def _victims(view: EngineView) -> list[RequestView]:
    """Who yields so that the most urgent waiting request fits: as few as possible of lower priority, the
    least urgent first; nobody, if all of them would not do.
    """
    if not view.waiting:
        return []
    needy = min(view.waiting, key=_urgency)
    lower = [request for request in view.running if request.priority < needy.priority]
    victims: list[RequestView] = []
    for request in sorted(lower, key=_urgency, reverse=True):
        if _fits(view, needy, victims):
            break
        victims.append(request)
    return victims if _fits(view, needy, victims) else []


def _fits(view: EngineView, needy: RequestView, victims: list[RequestView]) -> bool:
    freed = sum(victim.num_blocks for victim in victims)
    has_place = len(view.running) - len(victims) < view.max_running
    return has_place and needy.num_blocks <= view.free_blocks + freed


def _without(view: EngineView, victims: list[RequestView]) -> EngineView:
    running = [request for request in view.running if request not in victims]
    free = view.free_blocks + sum(victim.num_blocks for victim in victims)
    return view._replace(running=running, free_blocks=free)


POLICY = Priority()
