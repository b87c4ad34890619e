from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.running import Running, config_for, running
from tests.serve.streaming import streaming

from apportion.core.claim import Kind
from apportion.engine.executor import RunItem
from apportion.engine.model_executor import ModelExecutor
from apportion.serve.schemas.status import ExpertMap, Planned, Status
from apportion.serve.status import planning

ASK = {"prompt": "once upon a time there was", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
ANNA, BERTA, ROOT = ("key-of-" + name * 8 for name in ("anna", "bert", "root"))
LONG = {**ASK, "max_tokens": 200, "stream": True}


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model of experts within a budget, of which a part streams."""
    with streaming(tmp_path_factory.mktemp("models")) as one:
        yield one


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    with running(config_for(folder, api_keys=(ANNA, BERTA), admin_key=ROOT)) as one:
        yield one


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take long enough to look at a request between them."""
    run = ModelExecutor.run

    def slow(self: ModelExecutor, items: Sequence[RunItem]) -> list[Any]:
        time.sleep(0.02)
        return run(self, items)

    monkeypatch.setattr(ModelExecutor, "run", slow)


def status(client: httpx.Client, **options: object) -> Status:
    response = client.get("/v1/apportion/status", **options)  # type: ignore[arg-type]
    assert response.status_code == 200
    return Status.model_validate_json(response.content)


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def test_a_status_tells_how_fast_the_last_minute_was(client: httpx.Client) -> None:
    assert client.post("/v1/completions", json=ASK).status_code == 200
    told = status(client)
    assert told.ready
    assert not told.draining
    (model,) = told.models
    assert (model.name, model.state, model.progress, model.error) == ("tiny", "loaded", 1.0, None)
    assert model.forecast is model.plan is model.experts is None
    assert model.measured.decode_tok_s
    assert model.measured.prefill_tok_s
    assert model.measured.ttft_s
    assert told.rates.ttft_p50_s
    assert told.rates.tpot_p99_s
    assert told.counters["output_tokens"] >= 16
    assert told.requests == []


def test_without_a_budget_the_process_is_divided_as_it_is(client: httpx.Client) -> None:
    ram = status(client).budget.ram
    assert ram.limit_bytes is None
    assert set(ram.kinds) == set(Kind)
    assert ram.leased_bytes == sum(ram.kinds.values())
    assert 0 < ram.rss_bytes <= ram.peak_rss_bytes
    assert ram.kinds["dense_weights"] > 0
    assert ram.kinds["kv"] > 0


def test_a_budget_is_told_by_kind_beside_plan_forecast_and_what_was_measured(tight: Running) -> None:
    with httpx.Client(base_url=tight.url, timeout=20) as client:
        client.post("/v1/completions", json=ASK)
        told = status(client)
    ram, (model,) = told.budget.ram, told.models
    assert ram.limit_bytes is not None
    assert 0 < ram.leased_bytes <= ram.limit_bytes
    assert ram.kinds["reserve"] > 0
    assert model.plan is not None
    assert 0 < model.plan["ram"] <= ram.limit_bytes  # what the process itself leaves
    assert model.scheduler == model.plan["scheduler"]
    assert model.forecast is not None
    assert model.forecast.decode_tok_s == model.plan["forecast"]["decode_tok_s"]
    assert model.measured.decode_tok_s


@pytest.mark.usefixtures("slow_steps")
def test_the_first_request_of_a_stream_is_seen_while_it_runs(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/completions", json=LONG) as answer:
        lines = (line for line in answer.iter_lines() if line)
        first = json.loads(next(lines).removeprefix("data: "))
        (request,) = status(client).requests
    assert request.id == first["id"]
    assert request.model == "tiny"
    assert request.state in ("prefill", "decode")
    assert request.prompt_tokens >= request.computed_tokens > 0
    assert request.max_tokens == 200
    assert request.age_s > 0


@pytest.mark.usefixtures("slow_steps")
def test_a_request_that_is_deleted_ends_within_a_step(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/completions", json=LONG) as answer:
        lines = (line for line in answer.iter_lines() if line)
        first = json.loads(next(lines).removeprefix("data: "))
        gone = client.delete(f"/v1/apportion/requests/{first['id']}")
        num_after = sum(1 for _ in lines)
    assert gone.json() == {"id": first["id"], "cancelled": True}
    assert num_after < 20
    again = client.delete(f"/v1/apportion/requests/{first['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.usefixtures("slow_steps")
def test_callers_see_and_end_their_own_requests_and_administrators_all(keyed: Running) -> None:
    with (
        httpx.Client(base_url=keyed.url, timeout=20) as client,
        client.stream("POST", "/v1/completions", json=LONG, headers=key(ANNA)) as answer,
    ):
        lines = (line for line in answer.iter_lines() if line)
        path = "/v1/apportion/requests/" + json.loads(next(lines).removeprefix("data: "))["id"]
        seen = {name: len(status(client, headers=key(name)).requests) for name in (ANNA, BERTA, ROOT)}
        assert seen == {ANNA: 1, BERTA: 0, ROOT: 1}
        assert client.delete(path, headers=key(BERTA)).status_code == 404
        assert client.delete(path).status_code == 401


@pytest.mark.usefixtures("slow_steps")
def test_an_administrator_ends_anybodys_request(keyed: Running) -> None:
    with (
        httpx.Client(base_url=keyed.url, timeout=20) as client,
        client.stream("POST", "/v1/completions", json=LONG, headers=key(ANNA)) as answer,
    ):
        lines = (line for line in answer.iter_lines() if line)
        path = "/v1/apportion/requests/" + json.loads(next(lines).removeprefix("data: "))["id"]
        assert client.delete(path, headers=key(ROOT)).status_code == 200
        assert sum(1 for _ in lines) < 20


def test_experts_are_told_layer_by_layer(tight: Running) -> None:
    with httpx.Client(base_url=tight.url, timeout=20) as client:
        client.post("/v1/completions", json=ASK)
        told = ExpertMap.model_validate(client.get("/v1/apportion/experts").json())
        (model,) = status(client).models
    assert model.experts is not None
    assert (told.layers, told.experts) == (model.experts.layers, model.experts.experts)
    assert all(len(row) == told.experts for rows in (told.resident, told.hits, told.misses) for row in rows)
    assert told.layers == 3
    assert told.numbers == [0, 1, 2]
    assert 0 < model.experts.resident <= model.experts.slots == 9
    assert model.experts.misses > 0
    assert sum(map(sum, told.hits)) == model.experts.hits
    assert sum(map(sum, told.resident)) == model.experts.resident


def test_a_model_whose_weights_stay_has_no_map_of_experts(client: httpx.Client) -> None:
    told = client.get("/v1/apportion/experts", params={"model": "tiny"}).json()
    assert (told["layers"], told["resident"]) == (0, [])


@pytest.mark.parametrize("name", ["../../etc/passwd", "tiny.gguf", "x" * 200, "\u0000"])
def test_names_of_other_models_are_not_found_and_not_looked_for(client: httpx.Client, name: str) -> None:
    assert client.get("/v1/apportion/experts", params={"model": name}).status_code == 404
    planned = client.post("/v1/apportion/plan", json={"model": name, "ram": "4GiB"})
    assert planned.status_code == 404


def test_events_bring_the_status_every_second(client: httpx.Client) -> None:
    with client.stream("GET", "/v1/apportion/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = (line.removeprefix("data: ") for line in events.iter_lines() if line)
        # The second may follow at once: others watched before, and all are shown the same.
        _, second, third = (Status.model_validate_json(next(lines)) for _ in range(3))
    assert 0.8 < third.uptime_s - second.uptime_s < 10


def test_a_viewer_that_leaves_is_forgotten(server: Running, client: httpx.Client) -> None:
    with client.stream("GET", "/v1/apportion/events") as events:
        lines = events.iter_lines()
        next(lines)
        assert server.site.broadcast.num_viewers == 1
    give_up = time.monotonic() + 5
    while server.site.broadcast.num_viewers and time.monotonic() < give_up:
        time.sleep(0.02)
    assert server.site.broadcast.num_viewers == 0


def test_who_watches_sees_the_server_drain_and_is_sent_home_at_its_end(tmp_path: Path) -> None:
    with (
        running(config_for(tmp_path)) as server,
        httpx.stream("GET", f"{server.url}/v1/apportion/events", timeout=20) as events,
    ):
        lines = (line.removeprefix("data: ") for line in events.iter_lines() if line)
        assert not Status.model_validate_json(next(lines)).draining
        server.site.work.num_inside += 1
        server.site.draining = True
        assert any(Status.model_validate_json(next(lines)).draining for _ in range(3))
        server.site.work.num_inside -= 1
        assert sum(1 for _ in lines) < 3


def test_a_plan_is_what_the_command_line_tells(client: httpx.Client) -> None:
    response = client.post("/v1/apportion/plan", json={"ram": "4GiB", "ctx": 128})
    assert response.status_code == 200
    told = Planned.model_validate(response.json())
    assert (told.fits, told.model, told.ram, told.ctx) == (True, "tiny", 4 << 30, 128)
    assert told.forecast["decode_tok_s"] > 0
    assert sum(told.bytes.values()) == told.tiers["ram"] <= told.ram


def test_a_budget_that_is_too_small_is_refused_with_the_smallest_that_is_not(client: httpx.Client) -> None:
    refused = client.post("/v1/apportion/plan", json={"ram": 1 << 20})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "does_not_fit"
    least = error["details"]["numbers"]["smallest_budget"]
    assert client.post("/v1/apportion/plan", json={"ram": least}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ram": 0},
        {"ram": -1},
        {"ram": 1 << 80},
        {"ram": "much"},
        {"ram": "9" * 100},
        {"ram": "1GiB", "ctx": 0},
        {"ram": "1GiB", "ctx": 1 << 20},
        {"ram": "1GiB", "ctx": "all"},
        {"ram": "1GiB", "path": "/etc/passwd"},
        {"ram": None},
        [],
    ],
)
def test_what_is_no_budget_is_refused(client: httpx.Client, body: object) -> None:
    response = client.post("/v1/apportion/plan", json=body)
    assert response.status_code == 400
    assert "message" in response.json()["error"]


def test_plans_that_take_long_hold_up_nobody(
    server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, known = threading.Event(), planning.headers_of

    def slow(*args: object) -> planning.Headers:
        goes_on.wait(10)
        return known(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "headers_of", slow)
    server.site.planning._known = None
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/v1/apportion/plan", json={"ram": "4GiB"}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(planning.MOST_WAITING + 2)]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + 5
    while len(answers) < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    assert answers == [429, 429]
    assert client.get("/health").status_code == 200
    goes_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [200] * planning.MOST_WAITING + [429] * 2


def test_a_plan_that_takes_too_long_is_given_up(
    server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, known = threading.Event(), planning.headers_of

    def slow(*args: object) -> planning.Headers:
        goes_on.wait(10)
        return known(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "headers_of", slow)
    monkeypatch.setattr(planning, "LONGEST_S", 0.05)
    server.site.planning._known = None
    try:
        refused = client.post("/v1/apportion/plan", json={"ram": "4GiB"})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "limit_exceeded"
    finally:
        goes_on.set()


def test_a_model_that_is_not_here_cannot_be_planned_and_is_not_fetched(tmp_path: Path) -> None:
    from apportion.core.errors import NotFound
    from apportion.serve import ModelSpec

    for reference in ("pypi:no-such-model==1", "hf:nobody/nothing", str(tmp_path / "gone.gguf")):
        with pytest.raises(NotFound, match="not on this machine") as caught:
            planning.headers_of(ModelSpec("it", reference), offline=True)
        assert str(tmp_path) not in str(caught.value)
