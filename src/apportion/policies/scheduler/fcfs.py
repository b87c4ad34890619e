"""First come, first served, prompts whole and before everything else."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from apportion.policies.scheduler import EngineView, Scheduler, SchedulerState, Step
from apportion.policies.scheduler._compose import at_least, decoding, fitting, reading, through, whole


@dataclass(frozen=True, slots=True)
class Fcfs(Scheduler):
    """Reads the prompts of whoever fits at once and whole, and decodes only while nobody is left to enter.

    A step reads prompts of `tokens` in all, or one that is longer. Answers pause meanwhile: the baseline.

    Source: G.-I. Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models",
    OSDI 2022 (first come, first served, step by step); prompts first: W. Kwon et al., "Efficient Memory
    Management for Large Language Model Serving with PagedAttention", SOSP 2023, arXiv:2309.06180.
    """

    tokens: int = 2048

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)

    def state(self) -> SchedulerState:
        return FcfsState(self.tokens)


class FcfsState(SchedulerState):
    """Nothing to remember."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def plan(self, view: EngineView) -> Step:
        begun = reading(view)
        read = list(whole(chain(begun, fitting(view, view.waiting)), self._tokens))
        items = [through(view, request, request.num_missing) for request in read]
        return Step(tuple(items or decoding(view)), tuple(request.id for request in read[len(begun) :]))


POLICY = Fcfs()
