"""The engine: many requests, step by step.

plan       the scheduler decides which requests run, with which tokens, through which layers
run        one pass of the model over all of them
take in    tokens are chosen, answers end, rooms are given back
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.clock import Clock, RealClock
from apportion.core.errors import ApportionError, BrokenOff, DoesNotFit
from apportion.engine.executor import Executor, Rows, RunItem
from apportion.engine.kv.reuse import NoReuse, Reuse
from apportion.engine.kv.space import KvSpace
from apportion.engine.occupancy import Occupancy, holdings
from apportion.engine.request import Request, State
from apportion.engine.speculation.verify import verify
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.ops import Ints
from apportion.policies.scheduler import EngineView, Step, StepItem

if TYPE_CHECKING:
    from apportion.engine.completion import Delta
    from apportion.policies.scheduler import SchedulerState, Yield

MAX_RUNNING = 64
MOST_PROGRAMS = 4096  # whose first arrival is remembered
RUN_AHEAD = 4  # deltas of an answer that is read slowly, while others are waited for
NO_TOKENS: Ints = np.empty(0, np.int32)


@dataclass(slots=True)
class Counters:
    """What the engine did since it was made.

    Attributes:
        computed_tokens: passed all layers; drafted_tokens of them were guesses, accepted_tokens right ones.
        reused_tokens: needed no computing when their request entered.
        store_wait_s: seconds in which nothing ran because stored keys and values were not there yet.
    """

    requests: int = 0
    steps: int = 0
    computed_tokens: int = 0
    output_tokens: int = 0
    reused_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    yields: int = 0
    cancelled: int = 0
    failed: int = 0
    store_wait_s: float = 0.0


class Engine:
    """Requests, and a model that computes them. Safe to use from several threads; steps wait for one another.

    Args:
        executor: carries out steps.
        space: the blocks that keys and values lie in.
        scheduler: decides what runs.
        block_tokens: positions of a block.
        reuse: finds keys and values that were computed before, and keeps what may be used again.
        max_running: as many requests may run at once.
        item_tokens: as many tokens of one request may run in a step.
        step_tokens: as many tokens there is room for in a step; what is planned beyond it waits for the
            next one.
        observed_tokens: the same for a step in which somebody looks at hidden states.
        on_step: told of every step that was carried out: its items, when it began, and how many seconds it
            took.
    """

    def __init__(
        self,
        executor: Executor,
        space: KvSpace,
        scheduler: SchedulerState,
        *,
        block_tokens: int = BLOCK_TOKENS,
        reuse: Reuse | None = None,
        clock: Clock | None = None,
        max_running: int = MAX_RUNNING,
        item_tokens: int = sys.maxsize,
        step_tokens: int = sys.maxsize,
        observed_tokens: int = sys.maxsize,
        on_step: Callable[[Sequence[RunItem], float, float], None] | None = None,
    ) -> None:
        self.space = space
        self.counters = Counters()
        self.on_step = on_step
        self._executor = executor
        self._scheduler = scheduler
        self._reuse = NoReuse() if reuse is None else reuse
        self._clock = clock or RealClock()
        self._max_running = max_running
        self._item_tokens = item_tokens
        self._step_tokens = step_tokens
        self._observed_tokens = observed_tokens
        self._block_tokens = block_tokens
        self._inside = Occupancy(executor, space, self._reuse, block_tokens)
        self._in_step: Sequence[RunItem] = ()
        self._next_id = 0
        self._programs: dict[str, float] = {}
        self._stepping = threading.RLock()
        executor.watch(self._is_step_wanted)

    # --- requests ---

    def add(self, request: Request) -> Request:
        """Let a request wait for its turn.

        Raises:
            DoesNotFit: it could become longer than all the memory for keys and values.
        """
        with self._stepping:
            self._check_fits(request)
            now = self._clock.now()
            for one in (request, *request.branches):
                one.id, self._next_id = self._next_id, self._next_id + 1
                one.spent.added_s = now
                one.program_arrival_s = self._program_arrival(one.program, now) if one.program else now
            self._inside.waiting[request.id] = request
            self.counters.requests += 1 + len(request.branches)
        return request

    def _program_arrival(self, program: str, now_s: float) -> float:
        """When the first request of a program came; those that nobody heard of for long are forgotten."""
        arrival_s = self._programs.pop(program, now_s)
        self._programs[program] = arrival_s  # the one heard of last at the end
        if len(self._programs) > MOST_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        return arrival_s

    def cancel(self, request: Request) -> None:
        """End a request: at once, or after the step that runs, wherever it is."""
        request.cancelled = True
        if self._stepping.acquire(blocking=False):
            try:
                self._drop_overdue()
            finally:
                self._stepping.release()

    def shrink(self, num_blocks: int) -> int:
        """Give up so many blocks of the memory for keys and values, for good, as far as requests that run
        leave them; how many it were. Waiting requests that do not fit any more fail.
        """
        with self._stepping:
            given_up = self.space.shrink(num_blocks)
            for request in [*self._inside.waiting.values()]:
                try:
                    self._check_fits(request)
                except DoesNotFit as error:
                    self._fail(request, error)
                    self._finish(request)
        return given_up

    @property
    def step_tokens(self) -> int:
        """As many tokens as there is room for in a step."""
        return self._step_tokens

    def requests(self) -> list[Request]:
        """Those that entered, in that order, then those that wait. Any thread may ask, also while a step
        runs.
        """
        return [*self._inside.running.values(), *self._inside.waiting.values()]

    def num_read(self, request: Request) -> int:
        """Tokens of its prompt that were computed, those that have come through some of the layers counted in
        part. Any thread may ask, while a step runs, too.
        """
        num_layers, done = self._executor.num_layers, request.num_computed
        done += request.num_in_flight * request.first_layer // num_layers
        for item in self._in_step:
            if item.request == request.id:
                layer = min(max(item.first_layer, self._executor.layer), item.end_layer)
                done = request.num_computed + len(item.ids) * layer // num_layers
        return min(done, request.sequence.num_prompt)

    @property
    def block_tokens(self) -> int:
        """Positions of a block of keys and values."""
        return self._block_tokens

    @property
    def num_running(self) -> int:
        return len(self._inside.running)

    @property
    def num_waiting(self) -> int:
        return len(self._inside.waiting)

    @property
    def free_tokens(self) -> int:
        """Positions that could be granted now and nothing that is kept would have to give way."""
        return (self.space.pool.num_free - self.space.promised) * self._block_tokens

    def between_steps(self) -> threading.RLock:
        """A lock: while it is held, no step runs."""
        return self._stepping

    def _check_fits(self, request: Request) -> None:
        need, have = self._inside.most_blocks(request), self.space.pool.num_blocks
        if need > have:
            raise DoesNotFit(
                "the request is longer than the memory for keys and values",
                hint="lower max_tokens, ask for fewer answers at once, or give the KV cache more room",
                need_blocks=need,
                have_blocks=have,
                tokens=request.most_tokens,
            )

    # --- steps ---

    def step(self) -> list[tuple[Request, Delta]]:
        """Do the next step; what was added to which answer. Nothing where nobody wants anything.

        Raises:
            ApportionError: the step failed, a weight could not be read for instance. Every request is as it
                was before, and the step can be tried again.
        """
        with self._stepping:
            self._drop_overdue()
            self._welcome_loaded()
            step = self._plan()
            self._make_way(step)
            items = [self._item(item) for item in self._within_limits(step)]
            if not items:
                return []
            begin = self._clock.now()
            self._in_step = items
            try:
                rows = self._executor.run(items)
            except BrokenOff:  # the next step drops them
                return []
            finally:
                self._in_step = ()
            seconds = self._clock.now() - begin
            self.counters.steps += 1
            if self.on_step:
                self.on_step(items, begin, seconds)
            return [
                came
                for item, logits in zip(items, rows, strict=True)
                for came in self._take_in(item, logits, seconds)
            ]

    def _is_step_wanted(self) -> bool:
        """Whether somebody waits for the step that runs."""
        running = self._inside.running
        return any(not running[item.request].cancelled for item in self._in_step)

    def drive(self, request: Request, tell: Callable[[Request], None] | None = None) -> None:
        """Step until the request has a delta, or is over. `tell` is told before each step and after."""
        request.wanted = True
        try:
            while not request.deltas and not request.is_over:
                if tell:
                    tell(request)
                with self._stepping:  # another thread's step may have brought it meanwhile
                    if not request.deltas and not request.is_over:
                        self.step()
        finally:
            request.wanted = False
        if tell:
            tell(request)

    def finish(self, request: Request) -> None:
        """Step until the request is over."""
        while not request.is_over:
            with self._stepping:
                if not request.is_over:
                    self.step()

    # --- planning ---

    def _plan(self) -> Step:
        """The scheduler's step. Where it finds nothing to run or to admit, what is stored is waited for; then
        requests whose answers nobody reads give up their rooms.
        """
        while True:
            step = self._scheduler.plan(self._view())
            if step.items or step.admit or step.preempt:
                return step
            if loading := self._inside.loading():
                began = self._clock.now()
                self._reuse.wait(loading)
                self.counters.store_wait_s += self._clock.now() - began
                return step
            waiting = [request for request in self._inside.waiting.values() if is_wanted(request)]
            if not waiting:
                return step
            idle = [request for request in self._inside.running.values() if not is_wanted(request)]
            if idle:
                self._make_yield(idle[-1].id, "swap")
            elif not self._inside.running and not self._reuse.num_reading:
                self._refuse(waiting[0])
            else:
                return step

    def _refuse(self, request: Request) -> None:
        """Nobody runs whose end it could wait for, and still there is no room: let it fail."""
        error = DoesNotFit(
            "there is no room for the request's keys and values",
            "contexts that are open hold it, and nothing runs that would give any back",
            "close contexts, lower max_tokens, or give the KV cache more room",
            need_blocks=self._inside.most_blocks(request),
            available_blocks=self.space.available,
        )
        self._fail(request, error)
        self._finish(request)

    def _view(self) -> EngineView:
        ready = [request for request in self._inside.running.values() if request.state is State.RUNNING]
        running = [self._inside.view(request) for request in ready if is_wanted(request)]
        waiting = [
            self._inside.view(request) for request in self._inside.waiting.values() if is_wanted(request)
        ]
        others = len(self._inside.running) - len(running)
        return EngineView(
            self._clock.now(),
            running,
            waiting,
            self.space.available,
            self._max_running - others,
            self._executor.num_layers,
            self._executor.streams,
        )

    def _within_limits(self, step: Step) -> Iterator[StepItem]:
        """The step's items that are ready, with as many of their tokens as there is room for."""
        left = self._step_tokens
        if any(request.observes for request in self._inside.running.values()):
            left = min(left, self._observed_tokens)
        for item in step.items:
            request = self._inside.running.get(item.request)
            if request is None or request.state is not State.RUNNING:  # it waits, or has to be loaded first
                continue
            if item.first_layer:
                assert item.first_layer == request.first_layer, "a request's layers run in order"
                num_tokens = request.num_in_flight
            else:
                num_tokens = min(item.num_tokens, left, self._item_tokens)
            if num_tokens:
                left -= num_tokens
                yield StepItem(item.request, num_tokens, item.first_layer, item.end_layer)

    # --- coming and going ---

    def _make_way(self, step: Step) -> None:
        """Let requests yield and enter as the scheduler says."""
        for number, how in step.preempt:
            self._make_yield(number, how)
        for number in step.admit:
            request = self._inside.waiting[number]
            if not self._inside.fits(request):  # what others gave up is shared with someone who stays
                break
            num_tokens = self._inside.admit(request)
            self.counters.reused_tokens += num_tokens
            if request.num_cached is None:
                request.num_cached = num_tokens
                request.spent.admitted_s = self._clock.now()

    def _welcome_loaded(self) -> None:
        for request in self._inside.loading():
            num_tokens = self._inside.take_loaded(request)
            self.counters.reused_tokens += num_tokens
            if not request.spent.yields:
                request.num_cached = (request.num_cached or 0) + num_tokens

    def _make_yield(self, number: int, how: Yield) -> None:
        self._inside.make_yield(self._inside.running[number], how)
        self.counters.yields += 1

    def _drop_overdue(self) -> None:
        """End requests that were cancelled or whose deadline has passed."""
        now = self._clock.now()
        for request in [*self._inside.running.values(), *self._inside.waiting.values()]:
            if request.cancelled or (request.deadline_s is not None and now >= request.deadline_s):
                request.sequence.cancel()
                self.counters.cancelled += 1
                self._finish(request)

    def _finish(self, request: Request) -> None:
        for branch in request.branches:  # that never began
            branch.sequence.cancel()
            branch.state = State.FINISHED
        well = request.error is None
        self._inside.leave(request, keep=well, finished=well and not request.cancelled)
        request.state = State.FINISHED
        request.drafter = None  # which may hold memory
        request.spent.finished_s = self._clock.now()

    # --- running ---

    def _item(self, item: StepItem) -> RunItem:
        request = self._inside.running[item.request]
        sequence, start = request.sequence, request.num_computed
        ids = sequence.ids[start : start + item.num_tokens]
        num_logits, observe, best = 0, None, None
        ends = item.end_layer == self._executor.num_layers
        if ends and request.observes and request.observer is not None:
            observe = partial(request.observer.take_in, start)
        if ends and start + len(ids) == len(sequence.ids) and sequence.max_output:
            drafts = self._drafts(request) if len(ids) == 1 and not item.first_layer else NO_TOKENS
            ids, num_logits = np.concatenate([ids, drafts]) if len(drafts) else ids, 1 + len(drafts)
            if self._executor.finds_best and not request.branches:
                best = sequence.best_of
        place = request.first_place + start
        self._inside.grow(request, place + len(ids))
        return RunItem(
            request.id,
            ids,
            holdings(request).table,
            place,
            item.first_layer,
            item.end_layer,
            num_logits,
            None if request.base is None else request.base.position + start,
            observe,
            best,
        )

    def _drafts(self, request: Request) -> Ints:
        """Guesses for a request's next tokens."""
        sequence = request.sequence
        most = request.most_tokens - len(sequence.ids) - 1  # the last token that is chosen is never computed
        if request.drafter is None or most < 1 or not len(sequence.output):
            return NO_TOKENS
        drafts = request.drafter.propose(sequence.ids, most)[:most]
        if sequence.grammar is not None and len(drafts):  # what it forbids is not worth computing
            drafts = drafts[: sequence.grammar.num_accepted(drafts)]
        return drafts

    def _take_in(self, item: RunItem, rows: Rows | None, seconds: float) -> list[tuple[Request, Delta]]:
        request, num_tokens = self._inside.running[item.request], len(item.ids)
        request.count_time(seconds)
        if item.end_layer < self._executor.num_layers:
            request.first_layer, request.num_in_flight = item.end_layer, num_tokens
            return []
        drafts = item.ids[num_tokens - item.num_logits + 1 :] if item.num_logits > 1 else NO_TOKENS
        request.first_layer = request.num_in_flight = 0
        request.num_computed += num_tokens - len(drafts)
        self.counters.computed_tokens += num_tokens
        if rows is None:
            return self._go_on(request)
        family = [request, *self._inside.branch_off(request)]
        return [(one, delta) for one in family for delta in self._choose(one, drafts, rows, seconds)]

    def _go_on(self, request: Request) -> list[tuple[Request, Delta]]:
        """Its prompt goes on in the next step, or, where no answer is wanted, ends here."""
        if request.num_computed < len(request.sequence.ids):
            self._inside.keep(request)
            return []
        delta = request.sequence.end_unanswered()
        try:
            request.check_observed()
        except ApportionError as error:
            self._fail(request, error)
        request.take_in([delta], self._clock.now())
        self._finish(request)
        return [(request, delta)]

    def _fail(self, request: Request, error: ApportionError) -> None:
        request.error = error
        self.counters.failed += 1

    def _choose(self, request: Request, drafts: Ints, rows: Rows, seconds: float) -> list[Delta]:
        """Take up the tokens that follow, by the rows of logits [1 + drafts] after each."""
        deltas: list[Delta] = []
        try:
            request.check_observed()
            deltas, num_accepted = verify(request.sequence, drafts, rows)
            request.num_computed += num_accepted
            self._learn(request, len(drafts), num_accepted, seconds)
        except (
            ApportionError
        ) as error:  # of this request alone: there is no number to choose by, for instance
            self._fail(request, error)
        request.take_in(deltas, self._clock.now())
        self.counters.output_tokens += sum(delta.token_id is not None for delta in deltas)
        if request.error is not None or request.sequence.finish_reason is not None:
            self._finish(request)
        else:
            self._inside.keep(request)
        return deltas

    def _learn(self, request: Request, proposed: int, accepted: int, seconds: float) -> None:
        """Tell who guesses how the guesses did and what the step cost, also of steps without any."""
        if request.drafter is not None:
            request.drafter.took(proposed, accepted, seconds)
            self.counters.drafted_tokens += proposed
            self.counters.accepted_tokens += accepted


def is_wanted(request: Request) -> bool:
    """Whether somebody waits for it, or has begun to read it and is not far behind."""
    return any(
        one.wanted or (one.spent.first_token_s is not None and len(one.deltas) < RUN_AHEAD)
        for one in (request, *request.branches)
    )
