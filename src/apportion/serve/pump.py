"""The thread that computes: it steps the engines of all loaded models in turn and hands out what came."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from apportion.core.errors import ApportionError, Overloaded
from apportion.serve.answer import Answer, Batch, Label

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.engine import Engine
    from apportion.engine.request import Request

T = TypeVar("T")
logger = logging.getLogger("apportion.serve")

MAX_BACKLOG = 64  # deltas that a client has not taken; then its answer waits, and is not computed further
PAUSE_S = 0.01  # between looks at engines whose requests wait for clients
TICK_S = 1.0
TRIES = 3  # of a step that fails before its requests do


class Pump:
    """Steps engines and carries their answers to the event loop, one wake-up for each step.

    Everything that touches an engine happens on its thread, so no step is ever waited for by a client that
    only comes or goes.

    Args:
        max_waiting: requests that may wait for their turn.
        ping_s: seconds of silence after which an answer is told that it is still alive.
        on_begin, on_end: told of every answer that was asked for, and that is over, on the event loop.
    """

    def __init__(
        self,
        max_waiting: int,
        ping_s: float,
        on_begin: Callable[[Answer], None] | None = None,
        on_end: Callable[[Answer], None] | None = None,
    ) -> None:
        self.max_waiting = max_waiting
        self.ping_s = ping_s
        self.on_begin = on_begin
        self.on_end = on_end
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._open: set[Answer] = set()  # not over; for the event loop
        self._answers: dict[Engine, list[Answer]] = {}  # for the thread
        self._failures: dict[Engine, int] = {}
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="apportion-steps", daemon=True)
        self._ticking: asyncio.Task[None] | None = None
        self.step_began_s: float | None = None

    # --- from the event loop ---

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._ticking = self._loop.create_task(self._tick())

    async def stop(self) -> None:
        """Cancel what runs and end the thread."""
        for answer in self.answers():
            answer.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def submit(self, llm: LLM, requests: Sequence[Request], label: Label | None = None) -> Answer:
        """Let requests run; those that are branches of others among them come with these.

        Raises:
            Overloaded: too many wait.
        """
        waiting = sum(answer.is_waiting for answer in self.answers())
        if waiting >= self.max_waiting:
            raise Overloaded(
                "too many requests are waiting",
                hint="try again later",
                retry_after_s=self.retry_after_s(waiting),
                waiting=waiting,
                limit=self.max_waiting,
            )
        answer = Answer(llm, requests, self._cancel, label)
        if self.on_begin is not None:
            self.on_begin(answer)
        self._open.add(answer)
        self._post(lambda: self._add(llm.engine, answer))
        return answer

    async def do(self, function: Callable[[], T]) -> T:
        """Run something between steps."""
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        self._post(lambda: self._answer_call(function, future))
        return await future

    def answers(self) -> list[Answer]:
        """Those that are not over."""
        return [*self._open]

    def retry_after_s(self, waiting: int) -> int:
        """Seconds until a place is likely free: as long as those who wait have waited, within a minute."""
        ages = [answer.age_s for answer in self.answers() if answer.is_waiting]
        return int(min(60.0, max(1.0, sum(ages) / max(1, len(ages)))))

    def _cancel(self, answer: Answer) -> None:
        def drop() -> None:
            for request in answer.requests:
                answer.llm.engine.cancel(request)

        for request in answer.requests:  # seen by the engine before its next step, whatever is queued here
            request.cancelled = True
        self._post(drop)

    def _post(self, job: Callable[[], None]) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick_all()

    def _tick_all(self) -> None:
        """A function of its own, so that no answer, and with it a model, stays in sight until the next."""
        for answer in self.answers():
            answer.tick(self.ping_s)

    # --- on the thread ---

    def _run(self) -> None:
        # Turn by turn: who waits here refers to no engine, so that it can be unloaded.
        while self._turn():
            pass

    def _turn(self) -> bool:
        """One step of every engine that has something to do; False where nothing will come any more."""
        with self._wake:
            while not self._jobs and not self._answers and not self._stopping:
                self._wake.wait()
            if self._stopping and not self._jobs and not self._answers:
                return False
            jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
        for job in jobs:
            self._do(job)
        before = self._num_steps()
        for engine in [*self._answers]:
            self._step(engine)
        came = list(self._collect())
        if came:
            self._hand_out(came)
        elif before == self._num_steps():
            with self._wake:
                if not self._jobs:
                    self._wake.wait(PAUSE_S)
        return True

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:  # this thread must not end
            logger.exception("a job between steps failed")

    def _num_steps(self) -> int:
        return sum(engine.counters.steps for engine in self._answers)

    def _add(self, engine: Engine, answer: Answer) -> None:
        branches = {id(branch) for request in answer.requests for branch in request.branches}
        try:
            for request in answer.requests:
                if id(request) not in branches:
                    engine.add(request)
        except Exception as error:
            for request in answer.requests:
                engine.cancel(request)
            self._fail([answer], error)
            return
        self._answers.setdefault(engine, []).append(answer)
        self._soon(answer.accept)

    def _step(self, engine: Engine) -> None:
        self.step_began_s = monotonic()
        try:
            engine.step()
            self._failures.pop(engine, None)
        except Exception as error:
            self._step_failed(engine, error)
        finally:
            self.step_began_s = None

    def _step_failed(self, engine: Engine, error: Exception) -> None:
        """Try again; in the end fail what runs, so that one bad read hurts nobody who comes later."""
        self._failures[engine] = self._failures.get(engine, 0) + 1
        logger.error(
            "a step failed: %s", error if isinstance(error, ApportionError) else type(error).__name__
        )
        logger.debug("where it failed", exc_info=error)
        if self._failures[engine] < TRIES and isinstance(error, ApportionError):
            return
        self._failures.pop(engine)
        answers = self._answers.pop(engine, [])
        for answer in answers:
            for request in answer.requests:
                engine.cancel(request)
        self._fail(answers, error)

    def _collect(self) -> Iterable[tuple[Answer, Batch, bool]]:
        """What every answer has got, and whether it is over."""
        for engine, answers in [*self._answers.items()]:
            for answer in [*answers]:
                is_read = answer.backlog < MAX_BACKLOG
                for request in answer.requests:
                    request.wanted = is_read
                batch = taken(answer) if is_read else []
                is_over = answer.is_computed and not any(request.deltas for request in answer.requests)
                if is_over:
                    answers.remove(answer)
                if batch or is_over:
                    answer.num_given += len(batch)
                    yield answer, batch, is_over
            if not answers:
                del self._answers[engine]

    def _hand_out(self, came: list[tuple[Answer, Batch, bool]]) -> None:
        self._soon(lambda: self._deliver(came))

    def _deliver(self, came: list[tuple[Answer, Batch, bool]]) -> None:
        for answer, batch, is_over in came:
            answer.put(batch, is_over)
            if is_over:
                self._ended(answer)

    def _fail(self, answers: Sequence[Answer], error: Exception) -> None:
        def tell() -> None:
            for answer in answers:
                answer.fail(error)
                self._ended(answer)

        self._soon(tell)

    def _ended(self, answer: Answer) -> None:
        self._open.discard(answer)
        if self.on_end is not None:
            self.on_end(answer)

    def _answer_call(self, function: Callable[[], T], future: asyncio.Future[T]) -> None:
        try:
            result = function()
        except BaseException as error:
            failure = error
            self._soon(lambda: None if future.done() else future.set_exception(failure))
        else:
            self._soon(lambda: None if future.done() else future.set_result(result))

    def _soon(self, tell: Callable[[], None]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)


def taken(answer: Answer) -> Batch:
    """The deltas that its requests have got."""
    batch: Batch = []
    for choice, request in enumerate(answer.requests):
        while request.deltas:
            batch.append((choice, request.deltas.popleft()))
    return batch
