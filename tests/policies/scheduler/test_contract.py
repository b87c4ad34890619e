"""What holds for every scheduler: it finishes every workload, keeps to the room, and repeats itself."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.scheduler.tiny_engine import Job, TinyEngine, named, random_jobs

from apportion.core.errors import UsageError
from apportion.policies import SCHEDULERS
from apportion.policies.scheduler import EngineView, RequestView, Step

TEXTS = [
    *SCHEDULERS,
    "chunked:tokens=3",
    "chunked:tokens=33:tile=8",
    "splitfuse:tokens=40",
    "fcfs:tokens=1",
    "layer_major:tokens=64",
    "layered:tokens=100:group_tokens=7",
    "priority:give_up=swap",
    "shortest_job:ageing=0",
    "fair_share:writing=0",
]
every_scheduler = pytest.mark.parametrize("text", TEXTS)
MOST_STEPS = 20_000


def engine_for(text: str, random: Random) -> TinyEngine:
    return TinyEngine(
        SCHEDULERS.choose(text).state(),
        num_blocks=random.choice([20, 40, 100]),
        max_running=random.choice([1, 2, 8]),
        num_layers=random.choice([1, 2, 7, 24]),
        streams=random.random() < 0.5,
    )


@every_scheduler
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_workload_is_finished_within_the_rules(text: str, seed: int) -> None:
    random = Random(seed)
    engine = engine_for(text, random)
    jobs = random_jobs(random, random.randint(1, 15), most_blocks=20)
    engine.run(jobs, MOST_STEPS)
    assert all(job.num_output == job.num_answer for job in jobs)


@every_scheduler
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_workload_gives_the_same_steps(text: str, seed: int) -> None:
    runs = []
    for _ in range(2):
        random = Random(seed)
        engine = engine_for(text, random)
        engine.run(random_jobs(random, 12, most_blocks=20), MOST_STEPS)
        runs.append(engine.steps)
    assert runs[0] == runs[1]


@every_scheduler
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_that_vanish_and_steps_that_are_lost_hold_up_nobody(text: str, seed: int) -> None:
    random = Random(seed)
    engine = engine_for(text, random)

    def disturb(engine: TinyEngine) -> None:
        if engine.running and random.random() < 0.1:
            engine.running.remove(random.choice(engine.running))
        if engine.waiting and random.random() < 0.05:
            engine.waiting.remove(random.choice(engine.waiting))
        if engine.running and random.random() < 0.1:  # what it had in flight is lost
            random.choice(engine.running).first_layer = 0

    engine.on_step = disturb
    engine.run(random_jobs(random, 15, most_blocks=20), MOST_STEPS)


@pytest.mark.parametrize("text", SCHEDULERS)
def test_a_large_request_enters_though_small_ones_keep_coming(text: str) -> None:
    engine = TinyEngine(SCHEDULERS.choose(text).state(), num_blocks=20, max_running=8)
    small = [Job(number, 0.05 * number, 40, 10) for number in range(200)]
    large = Job(1000, 0.5, 600, 20)
    engine.run([*small, large], MOST_STEPS)
    assert large.first_token_s is not None
    later = [job for job in small if job.finished_s is not None and job.finished_s > large.first_token_s]
    assert len(later) > 50, "it came last"


@every_scheduler
def test_an_empty_engine_gets_an_empty_step(text: str) -> None:
    view = EngineView(0.0, [], [], 100, 8, 4)
    assert SCHEDULERS.choose(text).state().plan(view) == Step()


@every_scheduler
def test_who_cannot_fit_yet_waits_and_who_runs_goes_on(text: str) -> None:
    running = RequestView(0, 0.0, 10, 1, 10, 64, 2)
    waiting = RequestView(1, 0.0, 500, 0, 0, 600, 19)
    step = SCHEDULERS.choose(text).state().plan(EngineView(1.0, [running], [waiting], 18, 8, 4))
    assert (step.admit, step.preempt) == ((), ())
    assert [(item.request, item.num_tokens, item.end_layer) for item in step.items] == [(0, 1, 4)]


@every_scheduler
def test_a_request_that_yielded_reads_what_it_wrote_again(text: str) -> None:
    yielded = RequestView(3, 0.0, 100, 20, 0, 200, 7)
    state = SCHEDULERS.choose(text).state()
    step = state.plan(EngineView(1.0, [], [yielded], 18, 8, 1))
    assert step.admit == (3,)
    assert step.items[0].num_tokens in {120, *range(1, 121)}


@pytest.mark.parametrize(
    "text",
    [
        "chunked:tokens=0",
        "chunked:tile=0",
        "splitfuse:tokens=0",
        "fcfs:tokens=-1",
        "layered:group_tokens=0",
        "layer_major:tokens=0",
        "fair_share:writing=-1",
        "shortest_job:ageing=nan",
        "priority:give_up=drop",
    ],
)
def test_parameters_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        SCHEDULERS.choose(text)


def test_jobs_are_found_by_their_id() -> None:
    with pytest.raises(AssertionError):
        named([Job(1, 0.0, 1, 1)], 2)
