"""What the schedulers share: who fits, and how the tokens of a step are shared out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import chain
from typing import Any, TypeAlias

from apportion.core.errors import UsageError
from apportion.policies.scheduler import EngineView, RequestView, SchedulerState, Step, StepItem

Urgency: TypeAlias = Callable[[RequestView], Any]
"""What requests are sorted by, the most urgent first."""

STREAMED_TOKENS = 8192
"""Prompt tokens of a step where weights come and go: every step reads them, so the fewer the better."""


def at_least(minimum: float, **parameters: float) -> None:
    """
    Raises:
        UsageError: a parameter is smaller, or not a number.
    """
    for name, value in parameters.items():
        if not value >= minimum:
            raise UsageError(f"{name} is at least {minimum}, not {value}")


def fitting(view: EngineView, waiting: Iterable[RequestView]) -> Iterator[RequestView]:
    """Those of `waiting` that have room, up to the first one that has none: nobody overtakes it, so that it
    enters as soon as enough of the others have left.
    """
    blocks, places = view.free_blocks, view.max_running - len(view.running)
    for request in waiting:
        if request.num_blocks > blocks or not places:
            return
        blocks -= request.num_blocks
        places -= 1
        yield request


def through(view: EngineView, request: RequestView, num_tokens: int) -> StepItem:
    """So many tokens of a request, through all layers."""
    return StepItem(request.id, num_tokens, 0, view.num_layers)


def decoding(view: EngineView) -> list[StepItem]:
    """The next token of everyone who decodes."""
    return [through(view, request, 1) for request in view.running if request.decodes]


def reading(view: EngineView) -> list[RequestView]:
    """Who runs and has read less than all of its prompt."""
    return [request for request in view.running if not request.decodes]


def whole(requests: Iterable[RequestView], tokens: int) -> Iterator[RequestView]:
    """The first of `requests` that miss no more than `tokens` together, the first one in any case."""
    for count, request in enumerate(requests):
        tokens -= request.num_missing
        if tokens < 0 and count:
            return
        yield request


def compose(view: EngineView, prompts: Iterable[RequestView], tokens: int, tile: int = 1) -> Step:
    """A step of every decode, and then of `prompts`, until it has `tokens`.

    The last prompt is cut: at a position that is a multiple of `tile`, if its share reaches one. Who does not
    run is admitted as it gets a share, so those among `prompts` must be `fitting`.
    """
    items = decoding(view)
    left = tokens - len(items)
    inside = {request.id for request in view.running}
    admit = []
    candidates = iter(prompts)
    while left > 0 and (request := next(candidates, None)) is not None:
        if request.id not in inside:
            admit.append(request.id)
        count = _share(request, left, tile)
        items.append(through(view, request, count))
        left -= count
    return Step(tuple(items), tuple(admit))


def _share(request: RequestView, left: int, tile: int) -> int:
    if request.num_missing <= left:
        return request.num_missing
    aligned = (request.num_computed + left) // tile * tile - request.num_computed
    return aligned if aligned > 0 else left


def by_urgency(view: EngineView, urgency: Urgency, tokens: int, tile: int) -> Step:
    """A step whose prompts are read, and whose waiting enter, the most urgent first.

    Where weights come and go prompts are cut only after `STREAMED_TOKENS`.
    """
    tokens = max(tokens, STREAMED_TOKENS) if view.streams else tokens
    entering = fitting(view, sorted(view.waiting, key=urgency))
    return compose(view, merge(sorted(reading(view), key=urgency), entering, key=urgency), tokens, tile)


class PieceByPiece(SchedulerState):
    """Prompts in the order in which they came, in pieces: of `alone` tokens while nobody waits for the next
    token of an answer. Nothing to remember.
    """

    def __init__(self, tokens: int, tile: int, alone: int = 0) -> None:
        self._tokens, self._tile, self._alone = tokens, tile, max(tokens, alone)

    def plan(self, view: EngineView) -> Step:
        prompts = chain(reading(view), fitting(view, view.waiting))
        decodes = any(request.decodes for request in view.running)
        return compose(view, prompts, self._tokens if decodes else self._alone, self._tile)
