"""Prompts whole and together, so that weights are read once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from apportion.policies.scheduler import EngineView, Scheduler, SchedulerState, Step
from apportion.policies.scheduler._compose import (
    STREAMED_TOKENS,
    at_least,
    compose,
    fitting,
    reading,
    whole,
)


@dataclass(frozen=True, slots=True)
class LayerMajor(Scheduler):
    """Takes all prompts that fit into one step, whole and beside the decodes: a layer's weights serve all.

    For weights that come and go: a step reads them once, however many tokens it has. Only a prompt of more
    than `tokens` is cut, since what lies between two layers needs memory.

    Source: Y. Sheng et al., "FlexGen: High-Throughput Generative Inference of Large Language Models with a
    Single GPU", ICML 2023, arXiv:2303.06865 (a block of requests passes a layer before the next is loaded).
    """

    tokens: int = STREAMED_TOKENS

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)

    def state(self) -> SchedulerState:
        return LayerMajorState(self.tokens)


class LayerMajorState(SchedulerState):
    """Nothing to remember."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def plan(self, view: EngineView) -> Step:
        begun = reading(view)
        together = whole(chain(begun, fitting(view, view.waiting)), self._tokens)
        decodes = len(view.running) - len(begun)
        return compose(view, together, self._tokens + decodes)


POLICY = LayerMajor()
