"""What must hold after everything that happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from apportion.engine.completion import Delta
from apportion.engine.engine import Engine
from apportion.engine.occupancy import Occupancy, holdings
from apportion.engine.request import Request, State

FIRST_COME = frozenset({"fcfs", "chunked", "splitfuse", "layer_major", "layered"})
"""Schedulers that let nobody overtake."""


class Violation(Exception):
    """Something that must always hold did not."""


def hold(condition: bool, what: str, *facts: object) -> None:
    """
    Raises:
        Violation: the condition is false.
    """
    if not condition:
        raise Violation(f"{what}{': ' if facts else ''}{', '.join(map(str, facts))}")


@dataclass(slots=True)
class Watched:
    """A request that an engine has, and what is known of it from outside.

    Attributes:
        answer: the tokens that it gets when it is alone, to its last.
        told: tokens that steps have reported; `read` those that were taken from the request itself.
        is_patient: somebody waits for it all the time; `is_branch`: it is another answer to a prompt.
        silent_after: steps that had begun when it was cancelled, or when it ended; None before that.
    """

    request: Request
    answer: list[int]
    is_patient: bool = True
    is_branch: bool = False
    told: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    silent_after: int | None = None
    was_told_end: bool = False

    @property
    def name(self) -> str:
        return f"request {self.request.id} of {self.request.sequence.num_prompt} tokens"


class Judge:
    """Looks at an engine between steps, and at what comes out of it.

    Args:
        num_reading: tells how many blocks reads write to, those included that were broken off.
    """

    def __init__(
        self, engine: Engine, block_tokens: int, scheduler: str, num_reading: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._inside: Occupancy = engine._inside  # the one look inside: rooms and who has them
        self._num_reading = num_reading
        self._block_tokens = block_tokens
        self._is_first_come = scheduler.split(":")[0] in FIRST_COME
        self._watched: dict[int, Watched] = {}
        self._entered: set[int] = set()

    def watch(self, watched: Watched) -> None:
        self._watched[watched.request.id] = watched

    # --- what comes out ---

    def hear(self, came: Iterable[tuple[Request, Delta]], step: int) -> None:
        """Deltas that step number `step` returned."""
        for request, delta in came:
            watched = self._watched[request.id]
            silent = watched.silent_after is not None and step > watched.silent_after
            hold(not silent, f"{watched.name} spoke after it was cancelled", delta)
            hold(not watched.was_told_end, f"{watched.name} spoke after its end", delta)
            if delta.token_id is not None:
                watched.told.append(delta.token_id)
            watched.was_told_end = delta.finish_reason is not None

    def take_deltas(self, watched: Watched) -> None:
        """Read what has come, as a client would."""
        while watched.request.deltas:
            delta = watched.request.deltas.popleft()
            if delta.token_id is not None:
                watched.read.append(delta.token_id)

    # --- between steps ---

    def check(self) -> None:
        """Everything that can be seen from outside a step."""
        self._check_blocks()
        self._check_order()
        for watched in self._watched.values():
            self._check_tokens(watched)
        over = [number for number, watched in self._watched.items() if watched.request.is_over]
        for number in over:
            self._check_end(self._watched.pop(number))

    def check_empty(self) -> None:
        """Nobody is left, so nothing is held but what is kept for others."""
        pool, space = self._engine.space.pool, self._engine.space
        hold(space.promised == 0, "room is promised to nobody", space.promised)
        unused = pool.num_free + pool.num_idle + self._num_reading()
        hold(unused == pool.num_blocks, "blocks leaked", pool.num_free, pool.num_idle)

    def _check_blocks(self) -> None:
        pool, space = self._engine.space.pool, self._engine.space
        hold(space.available >= 0, "more is promised than there is", space.available, space.promised)
        held = Counter(self._blocks_held())
        kept = 0
        for block, holders in held.items():
            extra = pool.references(block) - holders
            hold(extra in (0, 1), f"block {block} is held by {holders}, not {pool.references(block)}")
            kept += extra
        hold(
            pool.num_free + len(held) + pool.num_idle + self._num_reading() == pool.num_blocks,
            "blocks are lost or held twice",
            f"{pool.num_free} free, {len(held)} held, {pool.num_idle} idle of {pool.num_blocks}",
        )
        promised = sum(holdings(request).room.left for request in self._inside.running.values())
        hold(promised == space.promised, "promises do not add up", promised, space.promised)

    def _blocks_held(self) -> Iterator[int]:
        for request in self._inside.running.values():
            blocks = holdings(request).blocks
            hold(len(blocks) == len(set(blocks)), f"request {request.id} has a block twice", blocks)
            enough = len(blocks) * self._block_tokens >= request.num_computed
            hold(enough, f"request {request.id} has computed more than its blocks hold")
            yield from blocks

    def _check_order(self) -> None:
        """Nobody is overtaken before he has entered, where the first to come is the first to enter."""
        entered = [number for number in self._inside.running if number not in self._entered]
        self._entered.update(entered)
        if not self._is_first_come:
            return
        watched = self._watched
        last = max((number for number in entered if not watched[number].is_branch), default=-1)
        patient = [number for number in self._inside.waiting if watched[number].is_patient]
        overtaken = [number for number in patient if number < last and number not in self._entered]
        hold(not overtaken, f"requests {overtaken} were overtaken by {last}")

    def _check_tokens(self, watched: Watched) -> None:
        output = watched.request.sequence.output.tolist()
        hold(output == watched.told, f"{watched.name} has other tokens than were told", output, watched.told)
        expected = watched.answer[: len(output)]
        hold(output == expected, f"{watched.name} has another answer than alone", output, expected)

    def _check_end(self, watched: Watched) -> None:
        request = watched.request
        self.take_deltas(watched)
        reason = request.sequence.finish_reason
        hold(watched.read == watched.told, f"{watched.name} gave other tokens than it told", watched.read)
        hold(request.held is None, f"{watched.name} has ended and holds blocks")
        hold(request.state is State.FINISHED, f"{watched.name} ended", request.state)
        if request.error is None and not request.cancelled and reason != "cancelled":
            hold(watched.told == watched.answer, f"{watched.name} ended early", watched.told, watched.answer)
