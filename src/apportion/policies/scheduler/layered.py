"""Prompts pass a group of layers per step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from apportion.policies.scheduler import EngineView, RequestView, Scheduler, SchedulerState, Step, StepItem
from apportion.policies.scheduler._compose import (
    STREAMED_TOKENS,
    at_least,
    decoding,
    fitting,
    reading,
    whole,
)


@dataclass(frozen=True, slots=True)
class Layered(Scheduler):
    """Reads a cohort of prompts through one group of layers per step, while everyone decodes through all.

    Prompts need not be cut for answers to flow, so a layer's weights serve a prompt once. A cohort has
    `tokens` at most and passes as many groups as it has `group_tokens`, rounded up to a power of 2. Groups
    are for 512 tokens in the paper, on accelerators; processors take as long for some 128.

    Source: G. Lee et al., "From Tokens to Layers: Redefining Stall-Free Scheduling for LLM Serving with
    Layered Prefill", arXiv:2510.08055 (2025).
    """

    tokens: int = STREAMED_TOKENS
    group_tokens: int = 128

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens, group_tokens=self.group_tokens)

    def state(self) -> SchedulerState:
        return LayeredState(self.tokens, self.group_tokens)


class LayeredState(SchedulerState):
    """The cohort.

    Its members' progress is in the view, so that who leaves, or has to begin again, holds up nobody.
    """

    def __init__(self, tokens: int, group_tokens: int) -> None:
        self._tokens, self._group_tokens = tokens, group_tokens
        self._cohort: dict[int, int] = {}  # request -> its tokens that pass the layers together
        self._ends = [0]  # where groups of layers end

    def plan(self, view: EngineView) -> Step:
        passing = [request for request in view.running if request.first_layer]
        admit: list[RequestView] = []
        if not passing:
            begun = reading(view)
            passing = list(whole(chain(begun, fitting(view, view.waiting)), self._tokens))
            admit = passing[len(begun) :]
            self._gather(view, passing)
        decodes = decoding(view)
        return Step(
            (*decodes, *(self._advance(view, request) for request in passing)),
            tuple(request.id for request in admit),
        )

    def _gather(self, view: EngineView, members: list[RequestView]) -> None:
        """A new cohort, and the groups of layers for its number of tokens."""
        self._cohort = {member.id: min(member.num_missing, self._tokens) for member in members}
        pieces = -(-sum(self._cohort.values()) // self._group_tokens)
        groups = min(1 << max(pieces - 1, 0).bit_length(), view.num_layers)
        self._ends = [view.num_layers * (group + 1) // groups for group in range(groups)]

    def _advance(self, view: EngineView, request: RequestView) -> StepItem:
        """A member's tokens through the group of layers that they have come to."""
        count = self._cohort.get(request.id, request.num_missing)
        end = next((end for end in self._ends if end > request.first_layer), view.num_layers)
        return StepItem(request.id, count, request.first_layer, end)


POLICY = Layered()
