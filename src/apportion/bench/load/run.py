"""A run: requests are sent when they are due, or by clients that wait for their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from apportion.bench.load.exchange import Address, Reply, exchange
from apportion.bench.load.stream import Seen, seen


@dataclass(frozen=True, slots=True)
class Run:
    """What came of all requests that were sent, in the order of sending.

    Attributes:
        seconds: until the last was answered or given up.
        generator_s: processor time that this process took meanwhile.
    """

    seen: Sequence[Seen]
    seconds: float
    generator_s: float


class Load:
    """Requests to a server, sent and recorded; for one run.

    Args:
        requests: when each is due, in seconds from the beginning on, and what is sent.
        limit_s: after so long nothing is sent any more, and what is not answered is given up.
        on_answer: told after each answer how many there are.
    """

    def __init__(
        self,
        address: Address,
        requests: Sequence[tuple[float, bytes]],
        limit_s: float,
        on_answer: Callable[[int], None] | None = None,
    ) -> None:
        self._address = address
        self._requests = requests
        self._limit_s = limit_s
        self._on_answer = on_answer
        self._sent: list[tuple[float, Reply]] = []
        self._answered = 0
        self._zero_s = 0.0

    def open_loop(self) -> Run:
        """Every request when it is due, whatever became of those before."""
        return self._run(self._each_when_due)

    def closed_loop(self, clients: int) -> Run:
        """So many clients; each sends its next request when its last was answered."""
        return self._run(lambda: self._by_clients(clients))

    def _run(self, send: Callable[[], Awaitable[object]]) -> Run:
        spent_s = time.process_time()
        asyncio.run(self._until_limit(send))
        spent_s = time.process_time() - spent_s
        seconds = perf_counter() - self._zero_s
        return Run([seen(due_s, reply, self._zero_s) for due_s, reply in self._sent], seconds, spent_s)

    async def _until_limit(self, send: Callable[[], Awaitable[object]]) -> None:
        self._zero_s = perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit_s):
                await send()

    async def _each_when_due(self) -> None:
        async with asyncio.TaskGroup() as group:
            for due_s, request in self._requests:
                await asyncio.sleep(max(0.0, self._zero_s + due_s - perf_counter()))
                group.create_task(self._ask(due_s, request))

    async def _by_clients(self, clients: int) -> None:
        waiting = iter(self._requests)
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(waiting))

    async def _client(self, waiting: Iterator[tuple[float, bytes]]) -> None:
        for _, request in waiting:
            await self._ask(perf_counter() - self._zero_s, request)

    async def _ask(self, due_s: float, request: bytes) -> None:
        reply = Reply()
        self._sent.append((due_s, reply))
        await exchange(self._address, request, reply)
        self._answered += 1
        if self._on_answer is not None:
            self._on_answer(self._answered)
