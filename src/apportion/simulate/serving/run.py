"""A seed's scenario, carried out: the engine's own classes on a virtual clock, a judge who looks on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from apportion.core.clock import VirtualClock
from apportion.core.errors import ApportionError, DiskFault, DoesNotFit
from apportion.core.faulty_disk import Fault, FaultyDisk, SeededFaults
from apportion.core.virtual_disk import VirtualDisk
from apportion.engine.engine import Engine
from apportion.engine.executor import RunItem
from apportion.engine.kv import BlockPool, KvSpace
from apportion.engine.kv.reuse import NoReuse, Reuse
from apportion.engine.params import SamplingParams
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.request import Request
from apportion.engine.sequence import Sequence as Tokens
from apportion.engine.store import KvStore, StoreConfig
from apportion.policies import RETENTIONS, SCHEDULERS
from apportion.simulate.serving.judge import Judge, Violation, Watched, hold
from apportion.simulate.serving.outside import Guesser, VirtualReads
from apportion.simulate.serving.scenario import Ask, Scenario
from apportion.simulate.serving.scripted import Numbers, ScriptedExecutor, answer_alone, block_nbytes

STEP_S, TOKEN_S = 0.002, 0.0005
SLOW = 50
CTX = 4096
GREEDY = SamplingParams(temperature=0).completed(SamplingParams())
TOKENIZER = Numbers()
NAME = fingerprint("scripted", "numbers", "tokens")
FOLDER = Path("/kv")


@dataclass(slots=True)
class Outcome:
    """What happened in a run that kept to every rule."""

    steps: int = 0
    failed_steps: int = 0
    tokens: int = 0
    cancelled: int = 0
    refused: int = 0
    yields: int = 0
    reused_tokens: int = 0
    restarts: int = 0
    shrunk_blocks: int = 0
    virtual_s: float = 0.0


@dataclass(slots=True, eq=False)
class Client:
    """Who asked, and waits for the answer even if the process dies."""

    ask: Ask
    answer: list[int]
    request: Request | None = None
    watched: list[Watched] = field(default_factory=list)
    gave_up: bool = False


def simulate(scenario: Scenario) -> Outcome:
    """Carry a scenario out to its end.

    Raises:
        Violation: something that must always hold did not; the message says how to see it again.
    """
    try:
        return Simulation(scenario).run()
    except Exception as error:
        again = f"apportion simulate --seed {scenario.seed}"
        raise Violation(f"seed {scenario.seed}: {type(error).__name__}: {error}\nagain: {again}") from error


class Simulation:
    """One run. Everything but the engine's classes is virtual."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = VirtualClock()
        self.outcome = Outcome()
        self._random = Random(f"faults {scenario.seed}")
        self._due: deque[Callable[[], None]] = deque()
        self._clients = [Client(ask, answer_alone(prompt_of(ask), ask.most)) for ask in scenario.asks]
        self._disk = VirtualDisk()
        self._store: KvStore | None = None
        self._reads: VirtualReads | None = None
        self._is_busy = False
        self._step = 0
        self._blocks = scenario.num_blocks
        self._start()
        for client in self._clients:
            self._at(client.ask.arrival_s, partial(self._arrive, client))
        for when, count in scenario.shrinks:
            self._at(when, partial(self._shrink, count))
        for when, power_fails in scenario.restarts:
            self._at(when, partial(self._restart, power_fails))
        for when in scenario.rots:
            self._at(when, self._rot)

    def run(self) -> Outcome:
        last_s = self._latest_end()
        while True:
            while self._due:
                self._is_busy = True
                self._due.popleft()()
                self._is_busy = False
                self._judge.check()
            if not self._engine.num_running and not self._engine.num_waiting:
                self._judge.check_empty()
                if self.clock.next_due() is None:
                    break
                self._pass_time()
            else:
                self._do_step()
                self._judge.check()
            hold(self.clock.now() < last_s, "it does not come to an end", self._engine.num_running)
        self._reuse.close()
        if self._store is not None:
            self._store.close()
        hold(self._space.pool.num_free == self._space.pool.num_blocks, "blocks leaked at the end")
        self._count()
        return self.outcome

    # --- the process ---

    def _start(self) -> None:
        """A new process: an engine with nothing in memory."""
        one = self.scenario
        memory = np.full((self._blocks, block_nbytes(one.block_tokens, one.num_layers)), 0xAA, np.uint8)
        pool = BlockPool(memory)
        self._reuse, index = self._make_reuse(pool)
        self._space = KvSpace(pool, index)
        executor = ScriptedExecutor(
            pool, one.block_tokens, one.num_layers, self._before_run, streams=one.streams
        )
        self._engine = Engine(
            executor,
            self._space,
            SCHEDULERS.choose(one.scheduler).state(),
            block_tokens=one.block_tokens,
            reuse=self._reuse,
            clock=self.clock,
            max_running=one.max_running,
            step_tokens=one.step_tokens,
        )
        self._judge = Judge(self._engine, one.block_tokens, one.scheduler, self._num_reading)

    def _make_reuse(self, pool: BlockPool) -> tuple[Reuse, PrefixIndex | None]:
        one = self.scenario
        if not one.retention:
            return NoReuse(), None
        retention, cost = RETENTIONS.choose(one.retention).state(), BlockCost()
        self._store = self._open_store(pool.block_nbytes) if one.stores else None
        self._reads = None
        if self._store is not None:
            self._reads = VirtualReads(self.clock, self._store.read_into, self._random, one.read_errors)
        index = PrefixIndex(pool, retention, self.clock, cost, self._store, one.block_tokens)
        reuse = PrefixReuse(
            index,
            pool,
            NAME,
            self.clock,
            cost,
            retention,
            reads=self._reads,
            block_tokens=one.block_tokens,
        )
        return reuse, index

    def _open_store(self, block_nbytes: int) -> KvStore | None:
        """The store on the disk, with what earlier processes left there; None where the disk fails."""
        one = self.scenario
        smallest = StoreConfig(1 << 40, NAME, block_nbytes)
        limit = smallest.smallest_limit + one.store_blocks * smallest.record_nbytes
        config = StoreConfig(limit, NAME, block_nbytes, queue_nbytes=3 * smallest.record_nbytes)
        chances = dict.fromkeys((Fault.IO_ERROR, Fault.NO_SPACE, Fault.SYNC_ERROR), one.disk_errors)
        disk = FaultyDisk(self._disk, SeededFaults(one.seed, chances), self.clock)
        try:
            return KvStore(FOLDER, config, disk=disk, clock=self.clock, background=False)
        except ApportionError:
            return None

    def _num_reading(self) -> int:
        return self._reuse.num_reading if isinstance(self._reuse, PrefixReuse) else 0

    def _rot(self) -> None:
        """A bit of the disk changes."""
        names = self._disk.listdir(FOLDER)
        if names:
            path = FOLDER / self._random.choice(names)
            if nbytes := self._disk.size(path):
                self._disk.flip_bit(path, self._random.randrange(nbytes), self._random.randrange(8))

    def _restart(self, power_fails: bool) -> None:
        """The process dies; who still waits for an answer asks the next one."""
        self.outcome.restarts += 1
        self._count()
        if self._reads is not None:
            self._reads.die()
        if power_fails:
            self._disk.crash(self._random)
        else:
            self._disk.end_process()
        waiting = [client for client in self._clients if client.request and not client.request.is_over]
        self._start()
        for client in waiting:
            client.request = None
            if not client.gave_up:
                self._arrive(client)

    def _shrink(self, count: int) -> None:
        freed = self._engine.shrink(count)
        self._blocks -= freed
        self.outcome.shrunk_blocks += freed

    def _count(self) -> None:
        """Take over the engine's counters."""
        counters = self._engine.counters
        self.outcome.steps += counters.steps
        self.outcome.tokens += counters.output_tokens
        self.outcome.yields += counters.yields
        self.outcome.reused_tokens += counters.reused_tokens
        self.outcome.cancelled += counters.cancelled
        self.outcome.refused += counters.failed
        self.outcome.virtual_s = self.clock.now()

    # --- clients ---

    def _arrive(self, client: Client) -> None:
        ask = client.ask
        family = [self._request(ask) for _ in range(ask.answers)]
        request = family[0]
        request.branches = family[1:]
        try:
            self._engine.add(request)
        except DoesNotFit:
            self.outcome.refused += 1
            return
        client.request = request
        client.watched = [
            Watched(one, client.answer, ask.read_s is None, one is not request) for one in family
        ]
        for watched in client.watched:
            self._judge.watch(watched)
        if ask.cancel_s is not None and not client.gave_up:
            self.clock.call_at(self.clock.now() + ask.cancel_s, partial(self._give_up, client))
        if ask.read_s is not None:
            self._at(self.clock.now(), partial(self._read, client, request))

    def _request(self, ask: Ask) -> Request:
        params = SamplingParams(temperature=0, max_tokens=ask.most).completed(GREEDY)
        guesser = None if ask.guesses is None else Guesser(self._random, ask.guesses)
        return Request(
            Tokens(prompt_of(ask), params, TOKENIZER, CTX),
            priority=ask.priority,
            tenant=ask.tenant,
            program=ask.program,
            ttl_s=ask.ttl_s,
            salt=ask.salt,
            drafter=guesser,
            tool=ask.tool,
        )

    def _give_up(self, client: Client) -> None:
        """The client loses interest, at any moment, also while a step runs."""
        client.gave_up = True
        for watched in client.watched:
            if watched.request.is_over:
                continue
            watched.silent_after = self._step
            if self._is_busy:  # what another thread's `cancel` comes to while a step holds the lock
                watched.request.cancelled = True
            else:
                self._is_busy = True
                self._engine.cancel(watched.request)
                self._is_busy = False

    def _read(self, client: Client, request: Request) -> None:
        """A client that takes its time: takes what has come, and asks for more later."""
        if client.request is not request or request.is_over:
            return
        if request.deltas:
            self._judge.take_deltas(client.watched[0])
            request.wanted = False
            assert client.ask.read_s is not None
            self._at(self.clock.now() + client.ask.read_s, partial(self._read, client, request))
        else:
            request.wanted = True
            self._at(self.clock.now() + STEP_S, partial(self._read, client, request))

    # --- time ---

    def _at(self, when: float, action: Callable[[], None]) -> None:
        """Do it between two steps, once it is that late."""
        self.clock.call_at(when, partial(self._due.append, action))

    def _do_step(self) -> None:
        before_s = self.clock.now()
        self._step += 1
        self._is_busy = True
        try:
            came = self._engine.step()
        except DiskFault:
            came = []
            self.outcome.failed_steps += 1
            self.clock.advance(STEP_S)
        finally:
            self._is_busy = False
        self._judge.hear(came, self._step)
        if self.clock.now() == before_s:
            self._pass_time()

    def _pass_time(self) -> None:
        """Nothing can run: something else has to happen first."""
        due = self.clock.next_due()
        hold(due is not None or not self._engine.num_waiting, "nothing happens and requests wait")
        self.clock.advance(0.0 if due is None else max(due - self.clock.now(), 0.0))

    def _before_run(self, items: Sequence[RunItem]) -> None:
        """A step takes time, now and then a lot, and may fail."""
        one = self.scenario
        calm = self.clock.now() > one.calm_s
        seconds = STEP_S + TOKEN_S * sum(len(item.ids) for item in items)
        seconds *= SLOW if not calm and self._random.random() < one.slowness else 1
        self.clock.advance(seconds)
        if not calm and self._random.random() < one.errors:
            raise DiskFault("a weight could not be read")

    def _latest_end(self) -> float:
        """When everything must be over: after the faults, what all requests take one after the other."""
        one, tokens = self.scenario, 0
        for ask in one.asks:
            tokens += (len(ask.prompt) + ask.most) * ask.answers
        reading = sum((ask.read_s or 0.0) * ask.most for ask in one.asks)
        return one.calm_s + 10.0 + tokens * (STEP_S * one.num_layers + TOKEN_S) * SLOW + reading


def prompt_of(ask: Ask) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(ask.prompt, np.int32)
