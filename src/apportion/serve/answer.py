"""One answer on its way to a client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from apportion.engine.completion import Completion, Delta
from apportion.engine.request import Request, State
from apportion.serve.request_log import Record, current_record

if TYPE_CHECKING:
    from apportion.engine import LLM

Batch: TypeAlias = list[tuple[int, Delta]]
"""Deltas, each with the number of the choice that it belongs to."""


@dataclass(frozen=True, slots=True)
class Label:
    """Which answer it is.

    Attributes:
        id: as its client knows it.
        model: by the name that the server gives it.
        owner: who asked, as `Caller.name`.
    """

    id: str = ""
    model: str = ""
    owner: str = ""


class Answer(AsyncIterator[Batch]):
    """What requests answer, batch by batch; an empty batch says that they are still alive.

    All but `num_given`, which the stepping thread counts, belongs to the event loop.

    Attributes:
        requests: one for each choice.
        num_given, num_taken: deltas that were handed over, and read.
        sink: takes a batch as it comes, if it can, where whoever iterates has nothing left to do but wait.
    """

    def __init__(
        self,
        llm: LLM,
        requests: Sequence[Request],
        on_cancel: Callable[[Answer], None],
        label: Label | None = None,
    ) -> None:
        self.llm = llm
        self.label = label or Label()
        self.requests = requests
        branches = {id(branch) for request in requests for branch in request.branches}
        self._stems = [request for request in requests if id(request) not in branches]
        self.record: Record | None = current_record()
        self.num_given = self.num_taken = 0
        self.error: Exception | None = None
        self.began_s = monotonic()
        self.sink: Callable[[Batch], bool] = lambda batch: False
        self._on_cancel = on_cancel
        self._batches: deque[Batch] = deque()
        self._came = asyncio.Event()
        self._is_starved = False
        self._is_over = False
        self._is_accepted = asyncio.Event()
        self._last_s = self.began_s
        self._told = 0

    def tell_record(self) -> None:
        """Say in the record of the HTTP request whose answer it is, and what it took."""
        if self.record is not None:
            self.record.model = self.label.model
            self.record.prompt_tokens = sum(stem.sequence.num_prompt for stem in self._stems)
            self.record.cached_tokens = sum(stem.num_cached or 0 for stem in self._stems)
            self.record.output_tokens = sum(len(one.sequence.output) for one in self.requests)

    @property
    def completions(self) -> list[Completion]:
        return [request.completion for request in self.requests]

    @property
    def age_s(self) -> float:
        return monotonic() - self.began_s

    @property
    def progress(self) -> tuple[int, int]:
        """Prompt tokens that were read, and all; what several choices share counts once."""
        total = sum(request.sequence.num_prompt for request in self._stems)
        return sum(self.llm.engine.num_read(request) for request in self._stems), total

    @property
    def backlog(self) -> int:
        """Deltas that were handed over and not read."""
        return self.num_given - self.num_taken

    @property
    def is_waiting(self) -> bool:
        """Whether none of its requests has entered."""
        return all(request.state is State.WAITING for request in self.requests)

    @property
    def is_computed(self) -> bool:
        return all(request.is_over for request in self.requests)

    def cancel(self) -> None:
        """Stop computing; what has come already can still be read."""
        if not self._is_over:
            self._on_cancel(self)

    async def accepted(self) -> None:
        """Wait until the engine has taken it.

        Raises:
            DoesNotFit: it could become longer than all the memory for keys and values.
        """
        await self._is_accepted.wait()
        if self.error is not None and not self.requests[0].deltas and not self._batches:
            raise self.error

    # --- from the pump ---

    def accept(self) -> None:
        self._is_accepted.set()

    def put(self, batch: Batch, is_over: bool) -> None:
        if self._is_over:  # it has failed
            return
        if not is_over and self._is_starved and not self._batches and self._is_sunk(batch):
            self._took(batch)
            return
        self._batches.append(batch)
        if is_over:
            errors = [request.error for request in self.requests if request.error is not None]
            self.error = errors[0] if errors else None
            self._is_over = True
        self._came.set()

    def _is_sunk(self, batch: Batch) -> bool:
        try:
            return self.sink(batch)
        except Exception as error:  # for whoever reads, not for who brings it
            self.fail(error)
            return True

    def _took(self, batch: Batch) -> None:
        self.num_taken += len(batch)
        self._last_s = monotonic()

    def fail(self, error: Exception) -> None:
        self.error, self._is_over = error, True
        self._is_accepted.set()
        self._came.set()

    def tick(self, ping_s: float) -> None:
        """Give a sign of life where nothing came for long, or where a prompt is being read."""
        done, total = self.progress
        reads = done != self._told and done < total and self.age_s > 1
        if not self._batches and (reads or monotonic() - self._last_s >= ping_s):
            self._told = done
            self._batches.append([])
            self._came.set()

    # --- for whoever reads ---

    async def __anext__(self) -> Batch:
        while not self._batches:
            if self._is_over:
                if self.error is not None:
                    raise self.error
                raise StopAsyncIteration
            self._came.clear()
            self._is_starved = True
            try:
                await self._came.wait()
            finally:
                self._is_starved = False
        batch = self._batches.popleft()
        while self._batches:  # several steps went by
            batch = batch + self._batches.popleft()
        self._took(batch)
        return batch
