"""An engine without a model, as small as the schedulers' contract allows, that holds them to every rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from apportion.policies.scheduler import EngineView, RequestView, SchedulerState, Step

BLOCK = 32


@dataclass(slots=True)
class Job:
    """A request, and what has become of it."""

    id: int
    arrival_s: float
    num_prompt: int
    num_answer: int
    priority: int = 0
    tenant: str = ""
    found: int = 0  # tokens that it finds computed when it enters
    num_output: int = 0
    num_computed: int = 0
    first_layer: int = 0
    in_flight: int = 0
    entered: bool = False
    yielded: int = 0
    finished_s: float | None = None
    first_token_s: float | None = None

    @property
    def num_blocks(self) -> int:
        return -(-(self.num_prompt + self.num_answer) // BLOCK)

    def view(self) -> RequestView:
        computed = self.num_computed if self.entered else self.found
        return RequestView(
            self.id,
            self.arrival_s,
            self.num_prompt,
            self.num_output,
            computed,
            self.num_prompt + self.num_answer,
            self.num_blocks,
            self.first_layer,
            self.priority,
            self.tenant,
        )


@dataclass
class TinyEngine:
    """Runs jobs to their end. A step takes a second for `tokens_per_s` tokens, and 0.01 s at least."""

    state: SchedulerState
    num_blocks: int
    max_running: int = 8
    num_layers: int = 6
    streams: bool = False
    tokens_per_s: float = 1000.0
    now_s: float = 0.0
    running: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    on_step: Callable[[TinyEngine], None] = lambda engine: None

    def view(self) -> EngineView:
        return EngineView(
            self.now_s,
            [job.view() for job in self.running],
            [job.view() for job in self.waiting],
            self.free,
            self.max_running,
            self.num_layers,
            self.streams,
        )

    @property
    def free(self) -> int:
        return self.num_blocks - sum(job.num_blocks for job in self.running)

    def run(self, jobs: Sequence[Job], most_steps: int = 100_000) -> None:
        """Until all are done; fails if that takes more steps."""
        arriving = sorted(jobs, key=lambda job: (job.arrival_s, job.id))
        while arriving or self.waiting or self.running:
            assert len(self.steps) < most_steps, "it goes on for ever"
            if not self.waiting and not self.running:
                self.now_s = max(self.now_s, arriving[0].arrival_s)
            while arriving and arriving[0].arrival_s <= self.now_s:
                self.waiting.append(arriving.pop(0))
            self.step()
            self.on_step(self)

    def step(self) -> None:
        could_run = bool(self.running) or any(job.num_blocks <= self.num_blocks for job in self.waiting[:1])
        step = self.state.plan(self.view())
        assert step.items or not could_run, "an empty step though somebody could run"
        self.steps.append(step)
        self._exchange(step)
        self._run(step)

    def _exchange(self, step: Step) -> None:
        assert not {request for request, _ in step.preempt} & set(step.admit)
        for request, _ in step.preempt:
            job = named(self.running, request)
            self.running.remove(job)
            self.waiting.insert(0, job)
            job.entered, job.first_layer, job.yielded = False, 0, job.yielded + 1
        for request in step.admit:
            job = named(self.waiting, request)
            assert job.num_blocks <= self.free, "no room for who was admitted"
            self.waiting.remove(job)
            self.running.append(job)
            job.entered, job.num_computed = True, job.found
        assert len(self.running) <= self.max_running

    def _run(self, step: Step) -> None:
        assert len({item.request for item in step.items}) == len(step.items), "a request twice"
        self.now_s += max(sum(item.num_tokens for item in step.items) / self.tokens_per_s, 0.01)
        for item in step.items:
            job = named(self.running, item.request)
            assert item.first_layer == job.first_layer, "layers out of order"
            assert item.first_layer < item.end_layer <= self.num_layers
            assert 1 <= item.num_tokens <= job.view().num_missing
            assert not job.first_layer or item.num_tokens == job.in_flight, "other tokens than those before"
            job.in_flight = item.num_tokens
            job.first_layer = item.end_layer % self.num_layers
            if item.end_layer == self.num_layers:
                self._came_through(job, item.num_tokens)

    def _came_through(self, job: Job, num_tokens: int) -> None:
        job.num_computed += num_tokens
        if job.num_computed < job.num_prompt + job.num_output:
            return
        job.num_output += 1
        job.first_token_s = job.first_token_s or self.now_s
        if job.num_output == job.num_answer:
            job.finished_s = self.now_s
            self.running.remove(job)


def named(jobs: Sequence[Job], request: int) -> Job:
    """The one of that id; fails if there is none."""
    found = [job for job in jobs if job.id == request]
    assert found, f"request {request} is not among {[job.id for job in jobs]}"
    return found[0]


def random_jobs(random: Random, count: int, most_blocks: int) -> list[Job]:
    """Requests of all sizes that fit into `most_blocks`, in bursts and with pauses."""
    jobs, now_s = [], 0.0
    for number in range(count):
        now_s += random.choice([0.0, 0.0, 0.01, 0.2, 3.0])
        whole = random.randint(2, random.choice([40, 200, most_blocks * BLOCK]))
        answer = random.randint(1, min(whole - 1, 40))
        job = Job(number, now_s, whole - answer, answer)
        job.priority = random.choice([0, 0, 0, 1, 5])
        job.tenant = random.choice("abc")
        job.found = random.choice([0, 0, job.num_prompt // 2 // BLOCK * BLOCK, job.num_prompt - 1])
        jobs.append(job)
    return jobs
