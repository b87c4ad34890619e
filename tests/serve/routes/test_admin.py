from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.serve.running import Running, config_for, running
from tests.serve.streaming import streaming

from apportion.serve.schemas.admin import ModelState, Prefixes
from apportion.serve.schemas.status import Budget

ADMIN, USER = "key-of-the-administrator", "key-of-somebody-who-asks"
ASK = {"prompt": "the keys and values of this prompt fill some blocks " * 3, "max_tokens": 2}
ROUTES = [
    ("POST", "/v1/apportion/models/tiny/load"),
    ("POST", "/v1/apportion/models/tiny/unload"),
    ("PUT", "/v1/apportion/budget"),
    ("GET", "/v1/apportion/cache"),
    ("POST", "/v1/apportion/cache/pin"),
    ("DELETE", "/v1/apportion/cache"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with streaming(tmp_path_factory.mktemp("models"), api_keys=(USER,), admin_key=ADMIN) as one:
        yield one


@pytest.fixture
def admin(site: Running) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with httpx.Client(base_url=site.url, timeout=20, headers=headers) as one:
        assert one.post("/v1/apportion/models/tiny/load").status_code == 200
        assert one.delete("/v1/apportion/cache").status_code == 200
        yield one


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_an_administrator_there_are_no_such_routes(server: Running, method: str, path: str) -> None:
    answer = httpx.request(method, server.url + path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_route")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_users_may_not(site: Running, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {USER}"}
    assert httpx.request(method, site.url + path, headers=headers).status_code == 403
    assert httpx.request(method, site.url + path).status_code == 401


def test_a_model_is_unloaded_and_loaded_again(admin: httpx.Client) -> None:
    gone = ModelState.model_validate(admin.post("/v1/apportion/models/tiny/unload").json())
    assert (gone.name, gone.state, gone.bytes) == ("tiny", "unloaded", 0)
    status = admin.get("/v1/apportion/status").json()
    assert not status["ready"]
    assert status["models"][0]["state"] == "unloaded"
    assert status["budget"]["ram"]["kinds"]["dense_weights"] == 0
    assert admin.get("/v1/apportion/experts").json()["layers"] == 0
    assert "apportion_kv_usage_ratio{" not in admin.get("/metrics").text
    here = ModelState.model_validate(admin.post("/v1/apportion/models/tiny/load").json())
    assert (here.state, here.bytes > 0) == ("loaded", True)
    assert admin.post("/v1/completions", json=ASK).status_code == 200


def test_models_that_are_not_offered_are_not_loaded(admin: httpx.Client) -> None:
    for name in ("other", "../tiny", "%2e%2e/tiny", "tiny.gguf"):
        for verb in ("load", "unload"):
            assert admin.post(f"/v1/apportion/models/{name}/{verb}").status_code == 404


def test_the_budget_changes_while_the_server_runs(admin: httpx.Client) -> None:
    before = admin.get("/v1/apportion/status").json()["budget"]["ram"]
    answer = admin.put("/v1/apportion/budget", json={"ram": "3GiB"})
    assert answer.status_code == 200
    ram = Budget.model_validate(answer.json()).ram
    assert ram.limit_bytes == 3 << 30
    assert admin.get("/v1/apportion/status").json()["budget"]["ram"]["limit_bytes"] == 3 << 30
    assert admin.put("/v1/apportion/budget", json={"ram": before["limit_bytes"]}).status_code == 200


def test_a_budget_that_cannot_hold_is_refused_and_the_old_one_holds(admin: httpx.Client) -> None:
    before = admin.get("/v1/apportion/status").json()["budget"]["ram"]["limit_bytes"]
    refused = admin.put("/v1/apportion/budget", json={"ram": 1 << 20})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "does_not_fit"
    assert error["details"]["numbers"]["smallest_budget"] > 1 << 20
    assert admin.get("/v1/apportion/status").json()["budget"]["ram"]["limit_bytes"] == before


@pytest.mark.parametrize(
    "body", [{}, {"ram": 0}, {"ram": "lots"}, {"ram": None}, {"ram": "1GiB", "x": 1}, []]
)
def test_what_is_no_budget_is_refused(admin: httpx.Client, body: object) -> None:
    assert admin.put("/v1/apportion/budget", json=body).status_code == 400


def test_without_a_budget_there_is_none_to_change(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(config_for(tmp_path_factory.mktemp("models"), admin_key=ADMIN)) as server:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        refused = httpx.put(f"{server.url}/v1/apportion/budget", json={"ram": "1GiB"}, headers=headers)
        assert refused.status_code == 400
        assert "no budget was stated" in refused.json()["error"]["message"]


def prefixes(admin: httpx.Client) -> Prefixes:
    return Prefixes.model_validate(admin.get("/v1/apportion/cache").json())


def test_what_is_kept_is_listed_pinned_and_dropped(admin: httpx.Client) -> None:
    assert prefixes(admin).prefixes == []
    assert admin.post("/v1/completions", json=ASK).status_code == 200
    (kept,) = prefixes(admin).prefixes
    assert kept.tokens >= 64
    assert kept.where == ["ram"]
    assert kept.pinned_s == 0
    pinned = admin.post("/v1/apportion/cache/pin", json={"key": kept.key, "seconds": 60})
    assert pinned.json() == {"tokens": kept.tokens}
    assert 50 < prefixes(admin).prefixes[0].pinned_s <= 60
    dropped = admin.delete("/v1/apportion/cache", params={"key": kept.key})
    assert dropped.json()["blocks"] > 0
    assert admin.delete("/v1/apportion/cache").status_code == 200
    assert prefixes(admin).prefixes == []


def test_the_list_does_not_tell_what_prompts_say(admin: httpx.Client) -> None:
    admin.post("/v1/completions", json=ASK)
    assert "keys and values of" not in admin.get("/v1/apportion/cache").text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key": "zz", "seconds": 1},
        {"key": "ab" * 16, "seconds": -1},
        {"key": "ab" * 16, "seconds": 1e9},
        {"key": "a" * 1000, "seconds": 1},
        {"key": 5, "seconds": 1},
    ],
)
def test_what_is_no_pin_is_refused(admin: httpx.Client, body: object) -> None:
    assert admin.post("/v1/apportion/cache/pin", json=body).status_code == 400


def test_of_a_model_that_is_not_loaded_nothing_is_kept_and_it_is_not_loaded_for_that(
    admin: httpx.Client,
) -> None:
    admin.post("/v1/apportion/models/tiny/unload")
    assert prefixes(admin).prefixes == []
    assert admin.delete("/v1/apportion/cache").json() == {"blocks": 0}
    assert admin.get("/v1/apportion/status").json()["models"][0]["state"] == "unloaded"
