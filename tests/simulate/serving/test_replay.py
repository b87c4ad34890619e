"""Traces through the engine's own classes: what waits, what is reused, and the same decisions twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from random import Random

import pytest

from apportion.engine.step_log import LoggedItem
from apportion.policies import SCHEDULERS
from apportion.simulate.serving.cost import Experts, StepCost, fit
from apportion.simulate.serving.replay import Replayed, Setting, replay, replay_steps
from apportion.simulate.serving.report import Limits, Served, percentiles, report
from apportion.simulate.serving.traces import TracedRequest
from apportion.simulate.serving.traces.synthetic import drawn

LAYERS = 4
COST = StepCost(0.005, 0.001, 0.0005, 1e-7, 0.0002)


def seconds(items: Sequence[LoggedItem]) -> float:
    return COST.seconds(items, LAYERS)


def served(scheduler: str, requests: Sequence[TracedRequest], **setting: object) -> Replayed:
    return replay(requests, Setting(scheduler, 1000, LAYERS, **setting), seconds)  # type: ignore[arg-type]


def busy(count: int = 60, **options: object) -> list[TracedRequest]:
    return list(islice(drawn(6.0, 200, 20, seed=1, **options), count))  # type: ignore[arg-type]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_serves_every_request_of_a_trace(scheduler: str) -> None:
    requests = busy(tenants=3)
    replayed = served(scheduler, requests)
    assert sorted((one.num_prompt, one.num_output) for one in replayed.served) == sorted(
        (one.num_prompt, one.num_output) for one in requests
    )
    assert all(one.ttft_s > 0 for one in replayed.served)
    assert replayed.busy_s <= replayed.seconds
    assert 0 < replayed.peak_blocks <= 1000


def test_a_request_alone_waits_for_what_its_steps_take() -> None:
    [one] = served("fcfs", [TracedRequest(3.0, 100, 5)]).served
    assert one.ttft_s == pytest.approx(seconds([LoggedItem(0, 100, 0, 0, LAYERS)]))
    assert one.longest_gap_s == pytest.approx(seconds([LoggedItem(0, 1, 103, 0, LAYERS)]), rel=1e-3)


def test_pieces_bound_the_pauses_of_answers_and_whole_prompts_do_not() -> None:
    runs = {name: served(name, busy()) for name in ("fcfs", "chunked")}
    gaps = {name: max(one.longest_gap_s for one in run.served) for name, run in runs.items()}
    longest_piece = seconds([LoggedItem(n, 1, 300, 0, LAYERS) for n in range(20)]) + 0.0005 * 128
    assert gaps["chunked"] <= longest_piece
    assert gaps["fcfs"] > 2 * gaps["chunked"]


def test_too_small_pieces_cost_more_than_they_give() -> None:
    """The curve has a bottom: neither the smallest nor the largest step is the best for everybody."""

    def ttft(tokens: int) -> float:
        replayed = served(f"splitfuse:tokens={tokens}", busy(100))
        return percentiles([one.ttft_s for one in replayed.served])["p90"]

    assert ttft(16) > 1.5 * ttft(256)


def test_where_experts_are_read_pieces_read_them_again_and_layers_do_not() -> None:
    experts = Experts(count=64, top_k=8, nbytes=1 << 30, bandwidth_Bps=1 << 30)
    reads = dict.fromkeys(("splitfuse", "layer_major", "layered"), 0.0)

    def timed(name: str) -> Callable[[Sequence[LoggedItem]], float]:
        cost = StepCost(0.005, 0.001, 0.0005, 0.0, 0.0, experts=experts)

        def takes(items: Sequence[LoggedItem]) -> float:
            reads[name] += cost.seconds(items, LAYERS) - StepCost(0.005, 0.001, 0.0005, 0.0, 0.0).seconds(
                items, LAYERS
            )
            return cost.seconds(items, LAYERS)

        return takes

    one = [TracedRequest(0.0, 1024, 1)]
    for name in reads:
        replay(one, Setting(name, 100, LAYERS, streams=True), timed(name))
    assert reads["layer_major"] == pytest.approx(1.0, rel=0.01)
    assert reads["layered"] == pytest.approx(1.0, rel=0.01)
    assert reads["splitfuse"] == pytest.approx(8.0, rel=0.01)


def test_prompts_that_begin_alike_are_read_once() -> None:
    requests = [TracedRequest(float(number), 512, 2, (0, number + 1), 256) for number in range(4)]
    kept, forgotten = (served("chunked", requests, retention=name) for name in ("lru", ""))
    assert (kept.reused_tokens, forgotten.reused_tokens) == (3 * 256, 0)
    assert kept.busy_s < forgotten.busy_s


def test_a_request_longer_than_all_memory_is_refused_and_counted() -> None:
    replayed = replay(
        [TracedRequest(0.0, 5000, 1), TracedRequest(0.0, 50, 1)], Setting("fcfs", 9, 4), seconds
    )
    facts = report(replayed, Limits(1.0, 1.0))
    assert (facts["requests"], facts["refused"], facts["well_served"]) == (1, 1, 0.5)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_the_times_of_recorded_steps_every_decision_is_the_same(scheduler: str) -> None:
    """As when a real engine is followed: its steps take what they take, and begin when they begin."""
    random, requests = Random(5), busy(40, tenants=2)
    setting = Setting(scheduler, 120, LAYERS, max_running=6)
    real = replay(requests, setting, lambda items: seconds(items) * random.uniform(0.5, 3.0))
    assert replay_steps(requests, setting, real.log.steps) == [step.items for step in real.log.steps]


def test_other_times_lead_to_other_decisions() -> None:
    setting = Setting("chunked", 120, LAYERS)
    slow = replay(busy(), setting, lambda items: 3 * seconds(items))
    fast = replay(busy(), setting, seconds)
    assert [step.items for step in slow.log.steps] != [step.items for step in fast.log.steps]


def test_a_model_that_was_fitted_to_a_run_foretells_another_one() -> None:
    random, setting = Random(6), Setting("chunked", 1000, LAYERS)
    real = replay(busy(), setting, lambda items: seconds(items) * random.uniform(0.9, 1.1))
    fitted = fit(real.log)
    other = list(islice(drawn(4.0, 150, 30, seed=9), 60))
    measured = replay(other, setting, seconds)
    foretold = replay(other, setting, lambda items: fitted.cost.seconds(items, LAYERS))
    assert foretold.busy_s == pytest.approx(measured.busy_s, rel=0.05)


def test_who_waits_too_long_is_not_served_well() -> None:
    one = Served("", 1.0, 10)
    for now in (2.0, 2.1, 2.4):
        one.token(now)
    assert (one.ttft_s, one.tpot_s, one.longest_gap_s) == pytest.approx((1.0, 0.2, 0.3))
    assert Limits(1.0, 0.21).met(one)
    assert not Limits(0.9, 0.21).met(one)
    assert not Limits(1.0, 0.19).met(one)
