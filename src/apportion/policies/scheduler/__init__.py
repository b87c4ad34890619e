"""Schedulers: which requests run in a step, with how many of their tokens and through which layers, who
enters and who yields. One file each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from apportion.policies.family import Policy, PolicyFamily

Yield: TypeAlias = Literal["recompute", "swap"]


class RequestView(NamedTuple):
    """What a scheduler sees of a request.

    Attributes:
        id: in the order of arrival, unless its caller says otherwise.
        num_prompt, num_output: tokens of the prompt, and of the answer so far.
        num_computed: its first tokens whose keys and values are in memory. A waiting request's are those that
            would be found there, or could be brought, if it entered now.
        max_tokens: prompt and answer at most, for which room is leased when it enters.
        num_blocks: KV blocks that it holds; of a waiting request, those that it would have to be granted.
        first_layer: the layer that its tokens in flight have come to; 0 where none are.
        priority: larger is more urgent.
        program: whose turns belong together; empty for none. `program_arrival_s` is that of its first.
        deadline_s: when its answer is worth nothing any more; None for never.
    """

    id: int
    arrival_s: float
    num_prompt: int
    num_output: int
    num_computed: int
    max_tokens: int
    num_blocks: int
    first_layer: int = 0
    priority: int = 0
    tenant: str = ""
    program: str = ""
    program_arrival_s: float = 0.0
    deadline_s: float | None = None

    @property
    def num_missing(self) -> int:
        """Tokens that are known and not computed: 1 while it decodes, the rest of what it reads before."""
        return self.num_prompt + self.num_output - self.num_computed

    @property
    def decodes(self) -> bool:
        """Whether its next step gives the token after all that it read. What came back with one token to read
        may have that token between two layers: then it still reads.
        """
        return self.num_output > 0 and self.num_missing == 1 and not self.first_layer


class EngineView(NamedTuple):
    """What a scheduler sees of the engine.

    Attributes:
        running: that have their room, in the order in which they entered; waiting: in the order of arrival,
            those that were made to yield first.
        free_blocks: KV blocks that can be granted, those included that only hold what may be forgotten.
        max_running: as many may run at once.
        streams: weights come and go, so that every pass over the layers costs reads.
    """

    now_s: float
    running: Sequence[RequestView]
    waiting: Sequence[RequestView]
    free_blocks: int
    max_running: int
    num_layers: int
    streams: bool = False


class StepItem(NamedTuple):
    """A request's next `num_tokens` tokens through layers first_layer..end_layer - 1.

    Tokens that are through all layers count as computed. Until then the request's next items are for the same
    tokens, from the layer on at which the last one ended.
    """

    request: int
    num_tokens: int
    first_layer: int
    end_layer: int


class Step(NamedTuple):
    """What happens next, in this order: `preempt` gives up the rooms of running requests, `admit` grants
    rooms to waiting ones, `items` run in one pass. Admitted requests may be among the items.
    """

    items: tuple[StepItem, ...] = ()
    admit: tuple[int, ...] = ()
    preempt: tuple[tuple[int, Yield], ...] = ()


class SchedulerState:
    """What a scheduler remembers between steps."""

    def plan(self, view: EngineView) -> Step:
        """The next step.

        Never empty where something runs, or where a waiting request fits with nothing running. What is
        admitted has room: its blocks, one after the other, are within the free ones and those of the
        preempted. No step preempts and admits the same request.
        """
        raise NotImplementedError


class Scheduler(Policy):
    """Decides what the next step is. Every engine has a state of its own."""

    budget: ClassVar[str] = "KV and compute"

    def state(self) -> SchedulerState:
        """Before the first step."""
        raise NotImplementedError


SCHEDULERS = PolicyFamily("scheduler", __name__, Scheduler, "fcfs")
