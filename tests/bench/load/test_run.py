"""Runs against a server whose delays are known: what is measured is what it did."""

from __future__ import annotations

import numpy as np
import pytest
from tests.bench.load.scripted_server import Script, ScriptedServer

from apportion.bench.load.arrivals import Order, whenever
from apportion.bench.load.figures import Limits
from apportion.bench.load.measure import Shape, measure
from apportion.bench.load.prompts import Prompts, WordLengths, Words
from apportion.bench.load.run import Load, Run
from apportion.bench.load.server import Server, address_of

WAY_S = 0.08  # from server to generator and back, where others compute too


def server_at(scripted: ScriptedServer) -> Server:
    return Server(address_of(scripted.url), "scripted")


def load(scripted: ScriptedServer, due: list[float], output: int = 4, limit_s: float = 20.0) -> Load:
    server = server_at(scripted)
    requests = [(at_s, server.request(f"{number}", output)) for number, at_s in enumerate(due)]
    return Load(server.address, requests, limit_s)


def test_times_are_those_that_the_server_took() -> None:
    delays = [0.02 * (number % 5 + 1) for number in range(20)]
    with ScriptedServer(lambda n: Script(ttft_s=delays[n], gap_s=0.02)) as scripted:
        run = load(scripted, [0.02 * n for n in range(20)]).open_loop()
    assert not [one.failure for one in run.seen if one.failure]
    by_number = sorted(scripted.told, key=lambda told: int(told.body["messages"][0]["content"]))
    for one, told in zip(run.seen, by_number, strict=True):
        took = told.words_s[0] - told.came_s
        assert took <= one.ttft_s <= took + WAY_S
        spans = np.diff(told.words_s)
        assert one.gaps_s == pytest.approx(spans.tolist(), abs=WAY_S)
        assert one.tpot_s == pytest.approx(spans.mean(), abs=WAY_S)
        assert one.output_tokens == 4


def test_percentiles_are_those_of_the_script() -> None:
    delays = [0.1] * 15 + [0.5] * 4 + [1.0]
    with ScriptedServer(lambda n: Script(ttft_s=delays[n], gap_s=0.05)) as scripted:
        server = server_at(scripted)
        prompts = Prompts(Words(), WordLengths(10, 2), "1")
        shape = Shape("all at once", None, [Order(0.0, 20, 4) for _ in delays])
        found = measure(server, shape, prompts, Limits(0.35, 0.2), warmup=0)
    assert found.ttft_s is not None
    for name, percent in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        expected = float(np.percentile(delays, percent))
        assert expected <= getattr(found.ttft_s, name) <= expected + 0.2
    assert found.tpot_s is not None
    assert 0.05 <= found.tpot_s.p50 <= 0.1
    assert found.gap_s is not None
    assert found.gap_s.n == 60
    assert found.well_served == 0.75
    assert found.output_tokens == 80


def test_an_open_loop_does_not_wait_for_answers() -> None:
    with ScriptedServer(lambda _: Script(ttft_s=0.5)) as scripted:
        run = load(scripted, [0.0, 0.1, 0.2]).open_loop()
    sent = [one.sent_s for one in run.seen]
    assert sent == pytest.approx([0.0, 0.1, 0.2], abs=WAY_S)
    assert run.seconds < 1.2


def test_clients_wait_for_their_answers() -> None:
    with ScriptedServer(lambda _: Script(ttft_s=0.1)) as scripted:
        run = load(scripted, [0.0] * 6).closed_loop(2)
    by_time = sorted(run.seen, key=lambda one: one.sent_s)
    for place, one in enumerate(by_time):
        running = sum(other.sent_s < one.sent_s < other.ended_s for other in by_time[:place])
        assert running < 2
    assert run.seconds >= 0.3
    assert all(one.ttft_s <= 0.1 + WAY_S for one in by_time)  # what it waited for its client does not count


def test_what_fails_is_told_by_kind_and_does_not_stop_the_others() -> None:
    endings = ["whole", "cut", "error", "silent", "whole"]
    with ScriptedServer(lambda n: Script(status=429) if n == 5 else Script(ends=endings[n])) as scripted:
        run = load(scripted, [0.0] * 6).closed_loop(1)
    kinds = [one.failure for one in run.seen]
    assert kinds == ["", "the connection broke off", "error: it broke", "no text", "", "HTTP 429"]


def test_what_is_not_answered_in_time_is_given_up() -> None:
    with ScriptedServer(lambda n: Script(ends="hangs" if n == 0 else "whole")) as scripted:
        run = load(scripted, [0.0, 0.1, 9.0], limit_s=0.6).open_loop()
    assert [one.failure for one in run.seen] == ["unfinished", ""]  # the third was never sent
    assert run.seconds < 2


def test_several_tokens_at_once_are_so_many_tokens() -> None:
    with ScriptedServer(lambda _: Script(gap_s=0.05, per_write=4)) as scripted:
        run = load(scripted, [0.0], output=12).open_loop()
    one = run.seen[0]
    assert one.output_tokens == 12
    assert one.tpot_s == pytest.approx(0.1 / 11, abs=WAY_S / 11)


def test_every_answer_is_told_and_warm_ups_are_not_counted() -> None:
    told: list[int] = []
    with ScriptedServer(lambda _: Script()) as scripted:
        prompts = Prompts(Words(), WordLengths(10, 2), "1")
        shape = Shape("2 clients", 2, whenever(30, 4, 5))
        found = measure(server_at(scripted), shape, prompts, Limits(1, 1), warmup=2, on_answer=told.append)
        asked = [one.body["messages"][0]["content"] for one in scripted.told]
    assert told == [1, 2, 3, 4, 5]
    assert (found.requests, found.answered) == (5, 5)
    assert len(set(asked)) == len(asked) == 7


def test_the_generator_takes_less_than_a_millisecond_for_a_token() -> None:
    with ScriptedServer(lambda _: Script(gap_s=0.001)) as scripted:
        server = server_at(scripted)
        requests = [(0.0, server.request("a", 100)) for _ in range(4)]
        run: Run = Load(server.address, requests, 30).closed_loop(4)
    # The server's thread is of the same process: this is what both take.
    assert run.generator_s / 400 < 1e-3
