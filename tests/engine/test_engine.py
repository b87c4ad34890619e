from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.engine.scripted import BLOCK, LAYERS, VOCAB, ScriptedExecutor, continued, make_request, make_space

from apportion.core.clock import VirtualClock
from apportion.core.errors import DiskFault, DoesNotFit
from apportion.engine.engine import Engine
from apportion.engine.params import SamplingParams
from apportion.engine.request import Request, State
from apportion.policies.scheduler import SCHEDULERS

PROMPTS = [[1, 2, 3], [5] * 9, list(range(20)), [7, 8], [1, 2, 4, 5]]


def make_engine(num_blocks: int = 100, scheduler: str = "chunked", **options: object) -> Engine:
    space = make_space(num_blocks)
    state = SCHEDULERS.choose(scheduler).state()
    return Engine(ScriptedExecutor(space.pool), space, state, block_tokens=BLOCK, **options)


def runs(engine: Engine) -> list[list]:
    return engine._executor.runs


def run_all(engine: Engine, most_steps: int = 1000) -> None:
    for _ in range(most_steps):
        if not engine.num_running and not engine.num_waiting:
            return
        engine.step()
    raise AssertionError("the engine did not come to an end")


def answers(requests: list[Request]) -> list[list[int]]:
    return [request.sequence.output.tolist() for request in requests]


def assert_empty(engine: Engine) -> None:
    pool = engine.space.pool
    assert pool.num_free == pool.num_blocks
    assert engine.space.promised == 0


@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
@pytest.mark.parametrize("num_blocks", [8, 14, 100])
def test_every_scheduler_gives_each_request_the_answer_that_it_has_alone(
    scheduler: str, num_blocks: int
) -> None:
    engine = make_engine(num_blocks, scheduler)
    requests = [engine.add(make_request(prompt, 6)) for prompt in PROMPTS]
    run_all(engine)
    assert answers(requests) == [continued(prompt, 6) for prompt in PROMPTS]
    assert_empty(engine)


def test_requests_share_the_steps() -> None:
    engine = make_engine()
    for prompt in PROMPTS:
        engine.add(make_request(prompt, 6))
    run_all(engine)
    assert max(len(run) for run in runs(engine)) == len(PROMPTS)
    assert len(runs(engine)) < 10


def test_a_request_enters_only_when_the_longest_that_it_can_become_has_room() -> None:
    engine = make_engine(num_blocks=6)
    first, second = (engine.add(make_request([1] * 5, 8)) for _ in range(2))  # 4 blocks each
    engine.step()
    assert (first.state, second.state) == (State.RUNNING, State.WAITING)
    run_all(engine)
    assert answers([first, second]) == [continued([1] * 5, 8)] * 2


def test_a_request_that_can_never_have_room_is_refused_with_the_numbers() -> None:
    engine = make_engine(num_blocks=4)
    with pytest.raises(DoesNotFit) as raised:
        engine.add(make_request([1] * 9, 8))
    assert raised.value.numbers == {"need_blocks": 5, "have_blocks": 4, "tokens": 17}
    assert engine.num_waiting == 0


@pytest.mark.parametrize("steps", range(6))
def test_a_cancelled_request_is_silent_from_the_next_step_on_and_leaves_nothing(steps: int) -> None:
    engine = make_engine(scheduler="chunked:tokens=4")
    other = engine.add(make_request([9, 9, 9], 8))
    request = engine.add(make_request(list(range(10)), 8))
    for _ in range(steps):
        engine.step()
    engine.cancel(request)
    assert request not in [one for one, _ in engine.step()]
    assert request.is_over
    assert request.sequence.finish_reason == "cancelled"
    run_all(engine)
    assert answers([other]) == [continued([9, 9, 9], 8)]
    assert_empty(engine)


def test_a_request_whose_deadline_passed_ends() -> None:
    clock = VirtualClock()
    engine = make_engine(clock=clock)
    late, other = engine.add(make_request([1, 2], 8, ttl_s=5.0)), engine.add(make_request([3], 3))
    engine.step()
    clock.advance(5.0)
    run_all(engine)
    assert len(late.sequence.output) == 1
    assert late.sequence.finish_reason == "cancelled"
    assert answers([other]) == [continued([3], 3)]


def test_a_step_that_failed_is_done_again_and_no_token_is_lost() -> None:
    engine = make_engine()
    requests = [engine.add(make_request(prompt, 6)) for prompt in PROMPTS]
    engine.step()
    for _ in range(3):
        engine._executor.error = DiskFault("a read failed")
        with pytest.raises(DiskFault):
            engine.step()
        engine.step()
    run_all(engine)
    assert answers(requests) == [continued(prompt, 6) for prompt in PROMPTS]


def test_a_request_that_cannot_choose_fails_alone() -> None:
    engine = make_engine()
    bad, good = engine.add(make_request([1], 6)), engine.add(make_request([2], 6))
    bad.sequence.sampler._bias_ids = np.arange(VOCAB)
    bad.sequence.sampler._bias = np.full(VOCAB, np.nan, np.float32)
    run_all(engine)
    assert "no next token" in str(bad.error)
    assert answers([good]) == [continued([2], 6)]
    assert_empty(engine)


def test_branches_share_the_prompt_and_each_has_an_answer_of_its_own() -> None:
    engine = make_engine()
    request = make_request(list(range(10)), 6)
    request.branches = [make_request(list(range(10)), 6) for _ in range(2)]
    family = [request, *request.branches]
    for seed, one in enumerate(family[1:]):  # the first is greedy, others are led astray
        one.sequence.sampler._bias_ids = np.array([seed])
        one.sequence.sampler._bias = np.array([99], np.float32)
    engine.add(request)
    run_all(engine)
    assert answers(family) == [continued(range(10), 6), [0] * 6, [1] * 6]
    assert sum(len(item.ids) for item in runs(engine)[0]) == 10
    assert engine.counters.computed_tokens == 10 + 3 * 5
    assert_empty(engine)


def test_branches_have_room_for_all_of_them_or_wait() -> None:
    engine = make_engine(num_blocks=7)
    first = engine.add(make_request([1, 2], 6))
    second = make_request(list(range(10)), 6)  # 4 blocks, and 2 for each other answer
    second.branches = [make_request(list(range(10)), 6)]
    engine.add(second)
    engine.step()
    assert second.state is State.WAITING
    run_all(engine)
    assert len(first.sequence.output) == 6
    assert answers([second]) == [continued(range(10), 6)]
    assert_empty(engine)


class Guessing:
    """Guesses right, or wrong from a place on."""

    def __init__(self, prompt: list[int], num_right: int) -> None:
        self.prompt, self.num_right, self.told = prompt, num_right, []

    def propose(self, ids: np.ndarray, most: int) -> np.ndarray:
        right = continued(ids.tolist(), min(4, most))
        return np.array([token if i < self.num_right else 0 for i, token in enumerate(right)], np.int32)

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        self.told.append((proposed, accepted))


@pytest.mark.parametrize(("num_right", "num_steps"), [(4, 3), (2, 5), (0, 11)])
def test_guesses_save_steps_and_change_no_token(num_right: int, num_steps: int) -> None:
    engine = make_engine()
    guessing = Guessing([1, 2], num_right)
    requests = [engine.add(make_request([1, 2], 11, drafter=guessing)), engine.add(make_request([4], 3))]
    run_all(engine)
    assert answers(requests) == [continued([1, 2], 11), continued([4], 3)]
    assert len(runs(engine)) == num_steps
    assert all(accepted == min(num_right, proposed) for proposed, accepted in guessing.told)
    assert_empty(engine)


def test_an_answer_that_nobody_reads_gives_its_room_to_one_that_is_waited_for() -> None:
    engine = make_engine(num_blocks=4)
    first, second = (engine.add(make_request(prompt, 8)) for prompt in ([1, 2, 3], [4, 5]))
    first.wanted = second.wanted = False
    for _ in range(3):
        engine.drive(first)
        first.deltas.popleft()
    engine.drive(second)
    assert second.sequence.output.tolist() == continued([4, 5], 1)
    while not first.is_over:
        engine.drive(first)
        first.deltas.clear()
    assert answers([first]) == [continued([1, 2, 3], 8)]


def test_threads_that_read_answers_share_steps() -> None:
    engine = make_engine()
    requests = [engine.add(make_request(prompt, 30)) for prompt in PROMPTS]
    for request in requests:
        request.wanted = False

    def read(request: Request) -> None:
        while not request.is_over:
            engine.drive(request)
            request.deltas.clear()

    threads = [threading.Thread(target=read, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers(requests) == [continued(prompt, 30) for prompt in PROMPTS]
    assert_empty(engine)


def test_sampling_with_a_seed_does_not_depend_on_what_runs_beside_it() -> None:
    def sampled(beside: int) -> list[int]:
        engine = make_engine()
        request = make_request([3, 1], 12)
        params = SamplingParams(temperature=5.0, seed=3, max_tokens=12).completed(SamplingParams())
        request.sequence.sampler.__init__(params)
        for number in range(beside):
            engine.add(make_request([number], 9))
        engine.add(request)
        run_all(engine)
        return request.sequence.output.tolist()

    assert sampled(0) == sampled(3)


def test_programs_that_nobody_heard_of_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apportion.engine.engine.MOST_PROGRAMS", 3)
    clock = VirtualClock()
    engine = make_engine(clock=clock)

    def arrival(program: str) -> float:
        clock.advance(1.0)
        request = engine.add(make_request([1, 2], 1, program=program))
        run_all(engine)
        return request.program_arrival_s

    assert [arrival(name) for name in ("a", "b", "c", "a", "d")] == [1, 2, 3, 1, 5]
    assert [arrival(name) for name in ("a", "b")] == [1, 7], "b was forgotten, a was not"
    assert len(engine._programs) == 3


def test_a_prompt_on_its_way_through_the_layers_is_read_in_part() -> None:
    seen: list[int] = []

    class Telling(ScriptedExecutor):
        def run(self, items: list) -> list:
            for layer in range(LAYERS):
                self.layer = layer
                seen.append(engine.num_read(request))
            return super().run(items)

    space = make_space(100)
    state = SCHEDULERS.choose("chunked").state()
    engine = Engine(Telling(space.pool), space, state, block_tokens=BLOCK)
    request = engine.add(make_request(list(range(20)), 4))
    assert engine.num_read(request) == 0
    engine.step()
    assert seen == [20 * layer // LAYERS for layer in range(LAYERS)]
    assert engine.num_read(request) == 20
    run_all(engine)
    assert max(seen) <= 20  # tokens of the answer are none of the prompt
