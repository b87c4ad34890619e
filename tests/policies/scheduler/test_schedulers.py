"""Each scheduler is what its name says."""

from __future__ import annotations

from random import Random

from tests.policies.scheduler.tiny_engine import BLOCK, Job, TinyEngine

from apportion.policies import SCHEDULERS
from apportion.policies.scheduler import EngineView, RequestView, Step


def run(text: str, jobs: list[Job], num_blocks: int = 1000, **engine: object) -> TinyEngine:
    tiny = TinyEngine(SCHEDULERS.choose(text).state(), num_blocks, **engine)  # type: ignore[arg-type]
    tiny.run(jobs)
    return tiny


def beside_decodes(text: str) -> TinyEngine:
    """One that answers, and a long prompt that comes while it does."""
    return run(text, [Job(0, 0.0, 10, 100), Job(1, 0.05, 2000, 5)])


def longest_step(engine: TinyEngine) -> int:
    return max(sum(item.num_tokens for item in step.items) for step in engine.steps)


def prompt_passes(engine: TinyEngine, request: int) -> int:
    """Steps in which the first layer read a part of this request's prompt."""
    items = [item for step in engine.steps for item in step.items if item.request == request]
    return sum(item.num_tokens > 1 and item.first_layer == 0 for item in items)


def test_fcfs_reads_a_prompt_whole_while_nobody_decodes() -> None:
    engine = beside_decodes("fcfs")
    reading = [step for step in engine.steps if any(item.num_tokens == 2000 for item in step.items)]
    assert len(reading) == 1
    assert len(reading[0].items) == 1


def test_fcfs_reads_prompts_together_up_to_its_tokens() -> None:
    engine = run("fcfs:tokens=300", [Job(number, 0.0, 120, 2) for number in range(4)])
    assert [[item.num_tokens for item in step.items] for step in engine.steps[:2]] == [[120] * 2] * 2


def test_chunks_bound_a_step_and_decodes_are_in_every_one() -> None:
    engine = beside_decodes("chunked:tokens=128")
    assert longest_step(engine) <= 128
    reading = [step for step in engine.steps if any(item.request == 1 for item in step.items)]
    assert all(step.items[0].request == 0 for step in reading[:16])
    assert prompt_passes(engine, 1) == 2000 // 96 + 1


def test_chunks_end_where_blocks_do() -> None:
    engine = beside_decodes("chunked")
    pieces = [item.num_tokens for step in engine.steps for item in step.items if item.request == 1]
    assert all(piece % BLOCK == 0 for piece in pieces[: 2000 // 96])


def test_splitfuse_steps_have_the_same_size_while_there_is_a_prompt() -> None:
    engine = beside_decodes("splitfuse:tokens=100")
    sizes = [sum(item.num_tokens for item in step.items) for step in engine.steps]
    full = [size for size in sizes if size > 5]
    assert full[1:-1] == [100] * (len(full) - 2)
    assert len(full) > 15


def test_a_small_budget_of_tokens_costs_more_steps() -> None:
    counts = [
        len(beside_decodes(f"chunked:tokens={tokens}:alone={tokens}").steps) for tokens in (8, 64, 2048)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[2]


def test_layer_major_takes_all_prompts_that_fit_in_one_step_beside_the_decodes() -> None:
    jobs = [Job(0, 0.0, 10, 50), *(Job(number, 0.02, 300, 5) for number in (1, 2, 3))]
    engine = run("layer_major", jobs)
    [step] = [step for step in engine.steps if any(item.num_tokens == 300 for item in step.items)]
    assert [item.num_tokens for item in step.items] == [1, 300, 300, 300]


def test_layer_major_cuts_only_what_is_too_long_by_itself() -> None:
    engine = run("layer_major:tokens=256", [Job(0, 0.0, 200, 2), Job(1, 0.0, 200, 2), Job(2, 0.0, 600, 2)])
    assert [prompt_passes(engine, request) for request in range(3)] == [1, 1, 3]


def test_layered_passes_one_group_of_layers_a_step_and_never_reads_a_layer_twice() -> None:
    engine = beside_decodes("layered:group_tokens=500")
    items = [item for step in engine.steps for item in step.items if item.request == 1]
    assert [(item.first_layer, item.end_layer) for item in items[:4]] == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert {item.num_tokens for item in items[:4]} == {2000}
    assert prompt_passes(engine, 1) == 1
    reading = [step for step in engine.steps if any(item.num_tokens == 2000 for item in step.items)]
    assert all(step.items[0].num_tokens == 1 for step in reading), "answers flow meanwhile"


def test_layered_reads_a_short_prompt_through_all_layers_at_once() -> None:
    engine = run("layered", [Job(0, 0.0, 100, 3)])
    assert len(engine.steps) == 3


def test_layered_begins_anew_who_lost_what_was_in_flight() -> None:
    state = SCHEDULERS.choose("layered:group_tokens=10").state()
    for _ in range(2):
        view = EngineView(0.0, [], [RequestView(0, 0.0, 20, 0, 0, 40, 2)], 10, 4, 4)
        assert state.plan(view).items[0].end_layer == 2
    lost = RequestView(0, 0.0, 20, 0, 0, 40, 2)
    assert state.plan(EngineView(0.0, [lost], [], 10, 4, 4)).items[0].first_layer == 0


def test_layered_does_not_decode_who_came_back_with_one_token_that_is_between_layers() -> None:
    engine = TinyEngine(SCHEDULERS.choose("layered:group_tokens=10").state(), 1000)
    # 9 of 10 tokens are found; the cohort's other member makes it pass the layers in groups.
    engine.run([Job(0, 0.0, 9, 3, found=9, num_output=1), Job(1, 0.0, 60, 1)])
    items = [item for step in engine.steps for item in step.items if item.request == 0]
    assert [item.end_layer for item in items[:6]] == [1, 2, 3, 4, 5, 6]


def finishing_order(text: str, jobs: list[Job], **engine: object) -> list[int]:
    run(text, jobs, **engine)  # type: ignore[arg-type]
    return [job.id for job in sorted(jobs, key=lambda job: job.finished_s or 0.0)]


def test_the_shortest_job_is_first() -> None:
    jobs = [Job(0, 0.0, 900, 4), Job(1, 0.0, 300, 4), Job(2, 0.0, 600, 4)]
    assert finishing_order("shortest_job", jobs, max_running=1) == [1, 2, 0]


def test_waiting_makes_a_job_shorter() -> None:
    jobs = [Job(0, 0.05, 500, 2), *(Job(number, 0.1 * number - 0.1, 100, 2) for number in range(1, 60))]
    patient = finishing_order("shortest_job:ageing=0", [Job(**fields(job)) for job in jobs], max_running=1)
    ageing = finishing_order("shortest_job:ageing=1000", jobs, max_running=1)
    assert patient.index(0) > 40
    assert ageing.index(0) < 10


def fields(job: Job) -> dict[str, float]:
    return {
        "id": job.id,
        "arrival_s": job.arrival_s,
        "num_prompt": job.num_prompt,
        "num_answer": job.num_answer,
    }


def test_the_shortest_waiting_is_read_before_a_longer_one_that_runs() -> None:
    jobs = [Job(0, 0.0, 2000, 2), Job(1, 0.2, 100, 2)]
    assert finishing_order("shortest_job", jobs) == [1, 0]


def test_the_urgent_makes_the_least_urgent_yield() -> None:
    jobs = [Job(0, 0.0, 300, 20, priority=1), Job(1, 0.0, 300, 20), Job(2, 0.5, 300, 20, priority=2)]
    engine = run("priority", jobs, num_blocks=21)
    assert [job.yielded for job in jobs] == [0, 1, 0]
    assert [step.preempt for step in engine.steps if step.preempt] == [((1, "recompute"),)]
    assert (jobs[2].finished_s or 0) < (jobs[1].finished_s or 0)


def test_nobody_yields_to_an_equal_or_where_it_would_not_do() -> None:
    equal = [Job(0, 0.0, 300, 20, priority=1), Job(1, 0.1, 300, 20, priority=1)]
    run("priority", equal, num_blocks=12)
    assert not any(job.yielded for job in equal)
    running = [RequestView(0, 0.0, 300, 1, 300, 320, 10), RequestView(1, 0.0, 300, 1, 300, 320, 10, 0, 9)]
    needy = RequestView(2, 0.0, 400, 0, 0, 640, 20, 0, 5)
    step = SCHEDULERS.choose("priority").state().plan(EngineView(0.0, running, [needy], 5, 8, 4))
    assert step.preempt == ()


def test_a_place_is_yielded_where_places_lack() -> None:
    jobs = [Job(0, 0.0, 30, 50), Job(1, 0.1, 30, 2, priority=1)]
    run("priority:give_up=swap", jobs, max_running=1)
    assert [job.yielded for job in jobs] == [1, 0]


def test_among_equals_the_earliest_deadline_is_first() -> None:
    def request(number: int, deadline_s: float | None) -> RequestView:
        return RequestView(number, 0.0, 100, 0, 0, 120, 4, deadline_s=deadline_s)

    waiting = [request(0, None), request(1, 9.0), request(2, 3.0)]
    step = SCHEDULERS.choose("priority").state().plan(EngineView(0.0, [], waiting, 100, 8, 4))
    assert step.admit == (2, 1)


def served(jobs: list[Job]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for job in jobs:
        totals[job.tenant] = totals.get(job.tenant, 0.0) + job.num_prompt * job.entered + 2 * job.num_output
    return totals


def test_a_tenant_that_floods_gets_no_more_than_one_that_always_waits() -> None:
    flood = [Job(number, 0.0, 100, 20, tenant="flood") for number in range(200)]
    modest = [Job(1000 + number, 0.1 + number * 0.2, 100, 20, tenant="modest") for number in range(40)]
    engine = TinyEngine(SCHEDULERS.choose("fair_share").state(), num_blocks=16)
    gaps = []

    def judge(engine: TinyEngine) -> None:
        if any(job.tenant == "modest" for job in engine.waiting):
            totals = served([*flood, *modest])
            gaps.append(totals["flood"] - totals.get("modest", 0.0))

    engine.on_step = judge
    engine.run([*flood, *modest])
    assert len(gaps) > 50
    bound = 2 * max(100, 2 * 16 * BLOCK)  # twice what memory holds, as published
    assert max(gaps) - min(gaps) < bound
    first_come = TinyEngine(SCHEDULERS.choose("fcfs").state(), num_blocks=16)
    again = [Job(**fields(job), tenant=job.tenant) for job in [*flood, *modest]]  # type: ignore[arg-type]
    first_come.run(again)
    fair_last = max(job.finished_s or 0.0 for job in modest)
    assert fair_last < 0.7 * max(job.finished_s or 0.0 for job in again if job.tenant == "modest")


def test_who_was_away_has_saved_nothing_up() -> None:
    state = SCHEDULERS.choose("fair_share").state()
    engine = TinyEngine(state, num_blocks=16)
    steady = [Job(number, 0.0, 100, 20, tenant="steady") for number in range(100)]
    back = [Job(1000 + number, 3.0, 100, 20, tenant="back") for number in range(30)]
    engine.run([*steady, *back])
    after = sorted([*steady, *back], key=lambda job: job.finished_s or 0.0)
    since = [job.tenant for job in after if (job.finished_s or 0.0) > 4.0][:20]
    assert 8 <= since.count("steady") <= 12


def test_fair_share_forgets_tenants_that_have_gone() -> None:
    state = SCHEDULERS.choose("fair_share").state()
    jobs = [Job(number, float(number), 20, 2, tenant=f"tenant {number}") for number in range(300)]
    TinyEngine(state, num_blocks=16).run(jobs)
    assert len(state._served) < 20  # type: ignore[attr-defined]


def test_where_weights_stream_orders_of_urgency_do_not_cut_prompts() -> None:
    for text in ("priority", "shortest_job", "fair_share"):
        assert prompt_passes(run(text, [Job(0, 0.0, 1500, 2)], streams=True), 0) == 1
        assert prompt_passes(run(text, [Job(0, 0.0, 1500, 2)]), 0) > 10


def test_planning_takes_well_under_a_millisecond() -> None:
    from time import perf_counter

    random = Random(1)
    running = [RequestView(n, 0.0, 100, 1, 100, 300, 9) for n in range(16)]
    waiting = [RequestView(16 + n, 0.1 * n, random.randint(10, 500), 0, 0, 600, 19) for n in range(100)]
    view = EngineView(5.0, running, waiting, 50, 32, 30)
    for name in SCHEDULERS:
        best = 1.0
        for _ in range(5):
            state = SCHEDULERS.get(name).state()
            start = perf_counter()
            state.plan(view)
            best = min(best, perf_counter() - start)
        assert best < 2e-3, name


def test_a_step_says_nothing_by_default() -> None:
    assert Step() == Step((), (), ())
