"""One request on its way through the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from apportion.core.errors import ApportionError
from apportion.engine.completion import Completion, Delta, Timings
from apportion.engine.sequence import Sequence
from apportion.kernels.ops import Ints
from apportion.policies.scheduler import RequestView

if TYPE_CHECKING:
    from apportion.engine.executor import Table
    from apportion.engine.kv import Room
    from apportion.engine.observers import Observer


class State(StrEnum):
    """Where a request is."""

    WAITING = "waiting"  # for room
    LOADING = "loading"  # has room; keys and values that were stored come back
    RUNNING = "running"
    FINISHED = "finished"  # well, cancelled or failed


class Drafter(Protocol):
    """Guesses how a sequence goes on, so that several of its tokens are computed in one pass."""

    def propose(self, ids: Ints, most: int) -> Ints:
        """At most `most` tokens after `ids` [n]; none where a guess would not pay."""

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        """A step with `proposed` tokens more than one took so long, and so many of them were right."""


@dataclass(slots=True)
class Held:
    """What a request that entered holds. Changed by the engine alone.

    Attributes:
        blocks: in the order of its positions, each held once.
        num_kept: its first blocks that others may find.
    """

    room: Room
    table: Table
    blocks: list[int] = field(default_factory=list)
    num_kept: int = 0


@dataclass(frozen=True, slots=True)
class Base:
    """What a sequence goes on from, where that is not a prompt of its own: blocks with keys and values.

    Attributes:
        blocks: with a bit for each of their places that tells whether it counts.
        num_places: where the sequence's own tokens begin, counted in places of the blocks.
        position: of its first own token, for rotary embeddings.
    """

    blocks: tuple[tuple[int, int], ...] = ()
    num_places: int = 0
    position: int = 0


@dataclass(slots=True)
class Spent:
    """Where a request's time went, in seconds by the engine's clock, and how often it had to yield."""

    added_s: float = 0.0
    admitted_s: float | None = None  # for the first time; a branch comes in with its stem
    first_token_s: float | None = None
    finished_s: float | None = None
    prefill_s: float = 0.0
    decode_s: float = 0.0
    decode_tokens: int = 0
    yields: int = 0


class Request:
    """A sequence, what its caller wants for it, and how far it has come.

    Args:
        priority: larger is more urgent.
        tenant: on whose behalf; shares are fair between tenants.
        program: whose turns belong together, such as the calls of one agent.
        ttl_s: seconds from when it was added after which its answer is worth nothing; None for never.
        salt: only requests of the same salt share keys and values.
        drafter: guesses ahead; None where one token is computed at a time.
        tool: the tool call that the answer ends in, where a caller knows that it will be continued.
        base: what the sequence goes on from; its blocks pass to the request.
        on_leave: takes the blocks that it held when it ends, and how many places of them are filled.
        observer: looks at the hidden states of its prompt's tokens; branches share it.

    Attributes:
        num_computed: its first tokens whose keys and values are in memory.
        first_layer: that its num_in_flight tokens have come to, which are on their way through the layers.
        num_cached: prompt tokens that needed no computing when it entered for the first time.
        deltas: that nobody has taken yet.
        wanted: somebody waits for its next delta.
        error: why it failed.
        keys: the names of its full blocks, as far as somebody asked for them.
    """

    def __init__(
        self,
        sequence: Sequence,
        *,
        priority: int = 0,
        tenant: str = "",
        program: str = "",
        ttl_s: float | None = None,
        salt: str = "",
        drafter: Drafter | None = None,
        tool: str = "",
        base: Base | None = None,
        on_leave: Callable[[list[int], int], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.sequence = sequence
        self.priority = priority
        self.tenant = tenant
        self.program = program
        self.program_arrival_s = 0.0
        self.ttl_s = ttl_s
        self.salt = salt
        self.drafter = drafter
        self.tool = tool
        self.base = base
        self.on_leave = on_leave
        self.observer = observer
        self.id = -1
        self.state = State.WAITING
        self.spent = Spent()
        self.held: Held | None = None
        self.branches: list[Request] = []
        self.num_computed = 0
        self.num_cached: int | None = None
        self.first_layer = self.num_in_flight = 0
        self.deltas: deque[Delta] = deque()
        self.wanted = True
        self.cancelled = False
        self.error: ApportionError | None = None
        self.keys: list[bytes] = []

    @property
    def is_over(self) -> bool:
        return self.state is State.FINISHED

    @property
    def has_read_prompt(self) -> bool:
        """Whether what it read of its prompt can be found by others, or never will."""
        return self.is_over or self.spent.first_token_s is not None

    @property
    def observes(self) -> bool:
        """Whether hidden states of its prompt are needed still."""
        return self.observer is not None and not self.observer.is_done

    @property
    def computes_all(self) -> bool:
        """Whether nothing that others computed can stand for its tokens; the last one's is never taken."""
        needs = self.observer is not None and self.observer.needs_from < self.sequence.num_prompt - 1
        return self.base is not None or needs

    def check_observed(self) -> None:
        """
        Raises:
            NotFinite: a hidden state of its prompt is no number, before it answers anything.
        """
        if self.observer is not None and not len(self.sequence.output):
            self.observer.check()

    @property
    def most_tokens(self) -> int:
        """Prompt and answer at most."""
        return self.sequence.num_prompt + self.sequence.max_output

    @property
    def first_place(self) -> int:
        """Where its own tokens begin in its blocks."""
        return 0 if self.base is None else self.base.num_places

    @property
    def deadline_s(self) -> float | None:
        return None if self.ttl_s is None else self.spent.added_s + self.ttl_s

    def view(self, num_computed: int, num_blocks: int) -> RequestView:
        """What a scheduler sees of it."""
        return RequestView(
            self.id,
            self.spent.added_s,
            self.sequence.num_prompt,
            len(self.sequence.output),
            num_computed,
            self.most_tokens,
            num_blocks,
            self.first_layer,
            self.priority,
            self.tenant,
            self.program,
            self.program_arrival_s,
            self.deadline_s,
        )

    def count_time(self, seconds: float) -> None:
        """A step that it was part of took so long."""
        if self.spent.first_token_s is None:
            self.spent.prefill_s += seconds
        else:
            self.spent.decode_s += seconds

    def take_in(self, deltas: Items[Delta], now_s: float) -> None:
        """Tokens that were chosen for it."""
        self.spent.decode_tokens += len(deltas)
        if deltas and self.spent.first_token_s is None:
            self.spent.first_token_s = now_s
            self.spent.decode_tokens -= 1
        self.deltas.extend(deltas)

    @property
    def completion(self) -> Completion:
        """The completion so far; `cancelled` until it has ended otherwise."""
        sequence = self.sequence
        return Completion(
            text=sequence.text,
            token_ids=tuple(sequence.output.tolist()),
            finish_reason=sequence.finish_reason or "cancelled",
            prompt_tokens=sequence.num_prompt,
            cached_tokens=self.num_cached or 0,
            seed=sequence.sampler.seed,
            timings=self._timings(),
            logprobs=tuple(sequence.logprobs) if sequence.sampler.params.logprobs is not None else None,
            prompt_logprobs=None if self.observer is None else self.observer.logprobs(),
            end_logprobs=sequence.end_logprobs,
        )

    def _timings(self) -> Timings:
        spent = self.spent
        computed = self.sequence.num_prompt - (self.num_cached or 0)
        return Timings(
            prefill_s=spent.prefill_s,
            decode_s=spent.decode_s,
            ttft_s=0.0 if spent.first_token_s is None else spent.first_token_s - spent.added_s,
            prefill_tok_s=computed / spent.prefill_s if spent.prefill_s else 0.0,
            decode_tok_s=spent.decode_tokens / spent.decode_s if spent.decode_s else 0.0,
        )
