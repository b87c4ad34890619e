"""Tenants get equal service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from apportion.policies.scheduler import EngineView, RequestView, Scheduler, SchedulerState, Step
from apportion.policies.scheduler._compose import STREAMED_TOKENS, at_least, compose, fitting, reading


@dataclass(frozen=True, slots=True)
class FairShare(Scheduler):
    """Lets in the tenant that was served least; a token written counts as `writing` tokens read.

    Of two tenants who always have somebody waiting none gets ahead by more than what fits into memory, and
    who was away has saved nothing up. Steps are as in `chunked`, and hold whole prompts where weights come
    and go.

    Source: Y. Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, arXiv:2401.00588 (the
    virtual token counter).
    """

    tokens: int = 128
    writing: float = 2.0

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)
        at_least(0, writing=self.writing)

    def state(self) -> SchedulerState:
        return FairShareState(self.tokens, self.writing)


class FairShareState(SchedulerState):
    """What each tenant was served, from the same point on for all who wait."""

    def __init__(self, tokens: int, writing: float) -> None:
        self._tokens, self._writing = tokens, writing
        self._served: dict[str, float] = {}
        self._queued: set[str] = set()  # tenants that had somebody waiting after the last step
        self._floor = 0.0  # what the last of those had that left nobody waiting

    def plan(self, view: EngineView) -> Step:
        self._welcome(view)
        tokens = max(self._tokens, STREAMED_TOKENS) if view.streams else self._tokens
        offered: list[RequestView] = []
        entering = fitting(view, self._turns(view, offered))
        step = compose(view, chain(reading(view), entering), tokens, tile=32)
        for request in offered[len(step.admit) :]:  # who did not fit is not charged
            self._served[request.tenant] -= request.num_missing
        for request in view.running:
            if request.decodes:
                self._served[request.tenant] += self._writing
        self._note_queue(view, set(step.admit))
        return step

    def _turns(self, view: EngineView, offered: list[RequestView]) -> Iterator[RequestView]:
        """Waiting requests, always the next one of the tenant served least, whose prompt is charged."""
        lines: dict[str, list[RequestView]] = {}
        for request in reversed(view.waiting):
            lines.setdefault(request.tenant, []).append(request)
        while lines:
            tenant = min(lines, key=lambda name: (self._served[name], name))
            request = lines[tenant].pop()
            if not lines[tenant]:
                del lines[tenant]
            self._served[tenant] += request.num_missing
            offered.append(request)
            yield request

    def _welcome(self, view: EngineView) -> None:
        """Who comes back to the queue starts level with the least served there."""
        waiting = {request.tenant for request in view.waiting}
        staying = [self._served[tenant] for tenant in waiting & self._queued]
        level = min(staying, default=self._floor)
        for tenant in waiting - self._queued:
            self._served[tenant] = max(self._served.get(tenant, 0.0), level)
        for request in view.running:
            self._served.setdefault(request.tenant, level)

    def _note_queue(self, view: EngineView, admitted: set[int]) -> None:
        """Remember who waits; forget who neither does nor is ahead of those who do."""
        queued = {request.tenant for request in view.waiting if request.id not in admitted}
        left = (self._queued | {request.tenant for request in view.waiting}) - queued
        if left:
            self._floor = max(self._served[tenant] for tenant in left)
        self._queued = queued
        level = min((self._served[tenant] for tenant in queued), default=self._floor)
        present = queued | {request.tenant for request in view.running}
        self._served = {name: was for name, was in self._served.items() if name in present or was > level}


POLICY = FairShare()
