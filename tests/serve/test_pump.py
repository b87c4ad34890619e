"""Requests reach engines on one thread, and answers come back to the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import weakref
from pathlib import Path

import httpx
import pytest
from tests.serve.running import Running, config_for, running

from apportion.core.errors import DiskFault
from apportion.engine import SamplingParams
from apportion.engine.engine import RUN_AHEAD
from apportion.serve import pump
from apportion.serve.answer import Answer

GREEDY = {"temperature": 0, "ignore_eos": True}


def idle(server: Running) -> bool:
    llm = server.site.models.loaded()["tiny"]
    return llm.engine.num_running == 0 and llm.engine.num_waiting == 0 and not server.site.pump.answers()


def wait_idle(server: Running) -> None:
    give_up = time.monotonic() + 10
    while not idle(server):
        assert time.monotonic() < give_up, "requests are still there"
        time.sleep(0.005)


def chunks(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_stream_says_what_the_answer_in_one_piece_says(client: httpx.Client) -> None:
    body = {"prompt": "Once upon", "max_tokens": 12, **GREEDY}
    whole = client.post("/v1/completions", json=body).json()
    streamed = chunks(client.post("/v1/completions", json=body | {"stream": True}).text)
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == whole["choices"][0]["text"]
    assert streamed[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"


def test_many_at_once_answer_what_each_answers_alone(client: httpx.Client, server: Running) -> None:
    bodies = [{"prompt": f"Number {i} and", "max_tokens": 10 + i, **GREEDY} for i in range(8)]
    alone = [client.post("/v1/completions", json=body).json()["choices"] for body in bodies]
    together: dict[int, list] = {}

    def ask(place: int) -> None:
        answer = httpx.post(f"{server.url}/v1/completions", json=bodies[place], timeout=20)
        together[place] = answer.json()["choices"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(8)] == alone


def test_who_leaves_is_not_computed_for_any_longer(client: httpx.Client, server: Running) -> None:
    body = {"prompt": "Once", "max_tokens": 200, "stream": True, **GREEDY}
    before = server.site.models.loaded()["tiny"].engine.counters.cancelled
    with client.stream("POST", "/v1/completions", json=body) as response:
        next(response.iter_lines())
    wait_idle(server)
    assert server.site.models.loaded()["tiny"].engine.counters.cancelled == before + 1


def test_a_request_that_can_never_fit_is_refused_before_a_stream_begins(client: httpx.Client) -> None:
    body = {"prompt": "Once", "max_tokens": 100_000, "stream": True}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_too_many_that_wait_are_told_when_to_come_again(client: httpx.Client, server: Running) -> None:
    server.site.pump.max_waiting = 0
    try:
        answer = client.post("/v1/completions", json={"prompt": "Once"})
    finally:
        server.site.pump.max_waiting = 256
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_step_that_fails_for_good_fails_who_runs_and_nobody_else(
    client: httpx.Client, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.site.models.loaded()["tiny"].engine

    def broken() -> None:
        raise DiskFault("a weight could not be read")

    monkeypatch.setattr(engine, "step", broken)
    answer = client.post("/v1/completions", json={"prompt": "Once"})
    monkeypatch.undo()
    assert answer.status_code == 500
    assert "weight" not in answer.text, "what is wrong inside is not the client's business"
    assert client.post("/v1/completions", json={"prompt": "Once", "max_tokens": 2}).status_code == 200
    wait_idle(server)


def test_nothing_holds_on_to_a_model_whose_answer_was_seen_by_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "TICK_S", 0.01)
    with running(config_for(tmp_path)) as own:
        body = {"prompt": "Once", "max_tokens": 60, "stream": True, **GREEDY}
        httpx.post(f"{own.url}/v1/completions", json=body)
        model = weakref.ref(own.site.models.loaded()["tiny"].model)
        asyncio.run_coroutine_threadsafe(own.site.models.unload("tiny"), own.loop).result(10)
        assert model() is None


def test_something_can_be_done_between_steps(server: Running) -> None:
    names = asyncio.run_coroutine_threadsafe(
        server.site.pump.do(lambda: threading.current_thread().name), server.loop
    )
    assert names.result(10) == "apportion-steps"


def test_an_answer_that_nobody_reads_is_not_computed_further(server: Running) -> None:
    llm = server.site.models.loaded()["tiny"]
    params = SamplingParams(max_tokens=110, temperature=0, ignore_eos=True)
    requests = [llm.request(llm.tokenizer.encode(text), params) for text in ("Once", "Once upon")]

    async def submit() -> Answer:
        return server.site.pump.submit(llm, requests)

    async def read() -> int:
        return sum([len(batch) async for batch in answer])

    answer = asyncio.run_coroutine_threadsafe(submit(), server.loop).result(10)
    give_up, made = time.monotonic() + 10, (0, -1)
    while (made[0] != made[1] or made[0] == 0) and time.monotonic() < give_up:
        time.sleep(0.3)
        made = (sum(len(request.sequence.output) for request in requests), made[0])
    assert asyncio.run_coroutine_threadsafe(read(), server.loop).result(20) == 220
    assert pump.MAX_BACKLOG <= made[0] <= pump.MAX_BACKLOG + 2 * (RUN_AHEAD + 1)
    wait_idle(server)


def test_the_log_says_whose_answer_it_was_and_what_it_took(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "apportion.requests")
    for stream in (False, True):
        client.post("/v1/completions", json={"prompt": "Once", "max_tokens": 5, "stream": stream, **GREEDY})
    give_up = time.monotonic() + 10
    while len(caplog.records) < 2:  # a line is written when its answer has gone out
        assert time.monotonic() < give_up, caplog.text
        time.sleep(0.005)
    told = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [line["model"] for line in told] == ["tiny"] * 2
    assert [line["output_tokens"] for line in told] == [5, 5]
    assert all(line["prompt_tokens"] > 0 and "cached_tokens" in line for line in told)
