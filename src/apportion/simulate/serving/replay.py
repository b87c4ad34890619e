"""A trace through the engine's own classes on a virtual clock, a cost model in the place of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from apportion.core.clock import VirtualClock
from apportion.core.errors import DoesNotFit
from apportion.engine.engine import MAX_RUNNING, Engine
from apportion.engine.kv import BlockPool, KvSpace
from apportion.engine.kv.reuse import NoReuse, Reuse
from apportion.engine.params import SamplingParams
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.request import Request
from apportion.engine.sequence import Sequence as Tokens
from apportion.engine.step_log import LoggedItem, LoggedStep, StepLog
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.policies import RETENTIONS, SCHEDULERS
from apportion.simulate.serving.report import Served
from apportion.simulate.serving.scripted import Numbers
from apportion.simulate.serving.timed import Seconds, TimedExecutor
from apportion.simulate.serving.traces import TracedRequest, prompt_ids

VOCAB = 1 << 30
TOKENIZER = Numbers(2, ends=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine to replay a trace on.

    Attributes:
        num_blocks: of keys and values, of `block_tokens` positions each.
        step_tokens: as many fit into a step.
        retention: what is kept for later requests goes by it; empty: nothing is kept.
        streams: weights come and go.
    """

    scheduler: str
    num_blocks: int
    num_layers: int
    max_running: int = MAX_RUNNING
    step_tokens: int = 1 << 30
    block_tokens: int = BLOCK_TOKENS
    retention: str = "lru"
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to.

    Attributes:
        served: of each request that fits, in the order in which they ended; `refused` do not fit.
        seconds: from the first arrival to the last token; `busy_s` of them passed in steps.
        peak_blocks: that were promised or held at once.
        log: every step.
    """

    served: tuple[Served, ...]
    refused: int
    seconds: float
    busy_s: float
    steps: int
    yields: int
    peak_blocks: int
    prompt_tokens: int
    reused_tokens: int
    log: StepLog


def replay(requests: Iterable[TracedRequest], setting: Setting, seconds: Seconds) -> Replayed:
    """Serve a trace, whose requests come when they came, whatever became of those before."""
    return Replay(setting, seconds).run(iter(requests))


def replay_steps(
    requests: Iterable[TracedRequest], setting: Setting, recorded: Sequence[LoggedStep]
) -> list[tuple[LoggedItem, ...]]:
    """What the same engine decides when its steps begin when recorded ones began and take as long.

    Arrivals are by the clock of the record. Where the record is of an engine of the same classes and setting,
    the decisions are the record's own.
    """
    times = iter(recorded)
    replaying = Replay(setting, lambda items: next(times).seconds)
    replaying.follow(iter(requests), recorded)
    return [step.items for step in replaying.log.steps]


class Replay:
    """One engine on its way through a trace."""

    def __init__(self, setting: Setting, seconds: Seconds) -> None:
        self.log = StepLog(setting.num_layers)
        self._setting = setting
        self._clock = VirtualClock()
        self._executor = TimedExecutor(self._clock, setting.num_layers, seconds, streams=setting.streams)
        pool = BlockPool(np.zeros((setting.num_blocks, 1), np.uint8))
        reuse, index = self._make_reuse(pool)
        self._space = KvSpace(pool, index)
        self._engine = Engine(
            self._executor,
            self._space,
            SCHEDULERS.choose(setting.scheduler).state(),
            block_tokens=setting.block_tokens,
            reuse=reuse,
            clock=self._clock,
            max_running=setting.max_running,
            step_tokens=setting.step_tokens,
            on_step=self.log,
        )
        self._served: list[Served] = []
        self._inside: dict[int, Served] = {}
        self._refused = self._number = self._peak = self._prompt_tokens = 0

    def run(self, requests: Iterator[TracedRequest]) -> Replayed:
        """Every step as soon as it can be."""
        coming = next(requests, None)
        first_s = coming.arrival_s if coming else 0.0
        self._clock.advance(first_s)
        while coming is not None or self._engine.num_running or self._engine.num_waiting:
            if not self._engine.num_running and not self._engine.num_waiting and coming is not None:
                self._clock.advance(max(coming.arrival_s - self._clock.now(), 0.0))
            while coming is not None and coming.arrival_s <= self._clock.now():
                self._add(coming)
                coming = next(requests, None)
            self._step()
        return self._result(first_s)

    def follow(self, requests: Iterator[TracedRequest], recorded: Sequence[LoggedStep]) -> None:
        """Every step when the recorded one was."""
        coming = next(requests, None)
        for step in recorded:
            while coming is not None and coming.arrival_s <= step.begin_s:
                self._clock.advance(max(coming.arrival_s - self._clock.now(), 0.0))
                self._add(coming)
                coming = next(requests, None)
            self._clock.advance(max(step.begin_s - self._clock.now(), 0.0))
            self._step()

    def _make_reuse(self, pool: BlockPool) -> tuple[Reuse, PrefixIndex | None]:
        size = self._setting.block_tokens
        if not self._setting.retention:
            return NoReuse(), None
        retention, cost = RETENTIONS.choose(self._setting.retention).state(), BlockCost()
        index = PrefixIndex(pool, retention, self._clock, cost, None, size)
        name = fingerprint("timed", "numbers", "nothing")
        return PrefixReuse(index, pool, name, self._clock, cost, retention, block_tokens=size), index

    def _add(self, traced: TracedRequest) -> None:
        prompt = prompt_ids(traced, self._number, VOCAB)
        self._number += 1
        params = SamplingParams(temperature=0, max_tokens=traced.num_output).completed(SamplingParams())
        tokens = Tokens(prompt, params, TOKENIZER, len(prompt) + traced.num_output)
        request = Request(tokens, tenant=traced.tenant)
        try:
            self._engine.add(request)
        except DoesNotFit:
            self._refused += 1
            return
        self._prompt_tokens += traced.num_prompt
        self._inside[request.id] = Served(traced.tenant, traced.arrival_s, traced.num_prompt)

    def _step(self) -> None:
        came = self._engine.step()
        now_s = self._clock.now()
        pool = self._space.pool
        self._peak = max(self._peak, pool.num_blocks - pool.num_free - pool.num_idle + self._space.promised)
        for request, delta in came:
            request.deltas.clear()
            served = self._inside[request.id]
            served.token(now_s)
            if delta.finish_reason is not None:
                self._served.append(self._inside.pop(request.id))

    def _result(self, first_s: float) -> Replayed:
        counters = self._engine.counters
        return Replayed(
            tuple(self._served),
            self._refused,
            self._clock.now() - first_s,
            self._executor.busy_s,
            counters.steps,
            counters.yields,
            self._peak,
            self._prompt_tokens,
            counters.reused_tokens,
            self.log,
        )
