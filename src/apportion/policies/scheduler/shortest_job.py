"""Short requests first."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.policies.scheduler import EngineView, RequestView, Scheduler, SchedulerState, Step
from apportion.policies.scheduler._compose import at_least, by_urgency


@dataclass(frozen=True, slots=True)
class ShortestJob(Scheduler):
    """Serves first who has the least left to read and to write at most; waiting makes a request shorter.

    A token to write counts as `writing` tokens to read, a second of waiting takes `ageing` of them off: none
    waits for ever. Steps are as in `chunked`, and hold whole prompts where weights come and go.

    Source: L. Kleinrock, "Queueing Systems, Volume II: Computer Applications", Wiley 1976 (shortest job
    first; priority that grows with waiting).
    """

    tokens: int = 128
    writing: float = 1.0
    ageing: float = 100.0

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)
        at_least(0, writing=self.writing, ageing=self.ageing)

    def state(self) -> SchedulerState:
        return ShortestJobState(self)


class ShortestJobState(SchedulerState):
    """Nothing to remember."""

    def __init__(self, policy: ShortestJob) -> None:
        self._policy = policy

    def plan(self, view: EngineView) -> Step:
        def length(request: RequestView) -> tuple[float, float, int]:
            to_write = request.max_tokens - request.num_prompt - request.num_output
            waited = self._policy.ageing * (view.now_s - request.arrival_s)
            length = request.num_missing + self._policy.writing * to_write - waited
            return length, request.arrival_s, request.id

        return by_urgency(view, length, self._policy.tokens, tile=32)


POLICY = ShortestJob()
