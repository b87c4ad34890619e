"""Every route says who may ask, and the gate holds them to it before it reads a body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route
from tests.serve.asgi import HOST, JSON, Said, ask
from tests.serve.running import config_for

from apportion.serve.access import MARK, Access, Keys, for_admins, for_users, open_to_all
from apportion.serve.app import create_app
from apportion.serve.gate import Gate, Table, entries

USER, OTHER, ADMIN = "user-key-1111", "other-key-222", "admin-key-333"
UNREAD = [b"{" + b" " * 100, b"}"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    config = config_for(tmp_path_factory.mktemp("models"), api_keys=(USER,), admin_key=ADMIN)
    return create_app(config)


@pytest.fixture(scope="module")
def app_without_admin(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(config_for(tmp_path_factory.mktemp("models"), api_keys=(USER,)))


def filled(template: str) -> str:
    """A path that a template fits."""
    return template.replace("{name:path}", "x").replace("{path:path}", "x").replace("{", "").replace("}", "")


def all_routes(app: FastAPI) -> list[tuple[str, str, Access]]:
    return [
        (method, filled(entry.template), entry.access)
        for entry in entries(app.routes)
        for method in sorted(entry.methods - {"HEAD"}) or ["GET"]
        if entry.access is not None
    ]


def keyed(key: str | None) -> list[tuple[str, str]]:
    return [HOST, JSON] if key is None else [HOST, JSON, ("authorization", f"Bearer {key}")]


def test_every_route_declares_a_class(app: FastAPI) -> None:
    assert all(isinstance(route, Route | Mount) for route in app.routes), "the gate sees no other kinds"
    undeclared = [entry.template for entry in entries(app.routes) if entry.access is None]
    assert undeclared == []
    assert len(list(entries(app.routes))) == len(app.routes)
    assert {entry.access for entry in entries(app.routes)} >= {Access.OPEN, Access.USER}


def test_what_is_open_is_a_list_that_somebody_has_looked_at(app: FastAPI) -> None:
    opened = {entry.template for entry in entries(app.routes) if entry.access is Access.OPEN}
    assert opened <= {"/health", "/v1/health", "/ready", "/", "/assets/{name}", "/favicon.ico"}


def test_each_class_is_enforced_on_each_route_before_its_body_is_read(app: FastAPI) -> None:
    for method, path, access in all_routes(app):
        if access is Access.OPEN:
            continue
        for tried in (None, "wrong-key-999"):
            said = ask(app, method, path, keyed(tried), UNREAD)
            assert (said.status, said.num_read) == (401, 0), (method, path, tried)
        if access is Access.ADMIN:
            said = ask(app, method, path, keyed(USER), UNREAD)
            assert (said.status, said.num_read) == (403, 0), (method, path)


def test_without_an_admin_key_the_admins_routes_do_not_exist(app_without_admin: FastAPI) -> None:
    unknown = ask(app_without_admin, "POST", "/no/such/route", keyed(USER))
    for method, path, access in all_routes(app_without_admin):
        if access is Access.ADMIN:
            said = ask(app_without_admin, method, path, keyed(USER), UNREAD)
            assert (said.status, said.body, said.num_read) == (404, unknown.body, 0), (method, path)


# --- a small application, so that every class has a route ---


def toy(keys: Keys) -> Gate:
    app = FastAPI(openapi_url=None)

    @app.get("/open")
    @open_to_all
    async def opened() -> str:
        return "open"

    @app.post("/user/{name}")
    @for_users
    async def user(name: str, body: dict[str, Any]) -> str:
        return name

    @app.post("/admin")
    @for_admins
    async def admin() -> str:
        return "admin"

    @app.get("/forgotten")
    async def forgotten() -> str:
        return "never seen"

    @app.get("/user/{name}")
    @open_to_all
    async def user_page(name: str) -> str:
        return "page"

    app.router.routes.append(Mount("/files", app=FastAPI()))
    return Gate(app, lambda: keys, lambda: app.routes)


BOTH = Keys([USER, OTHER], ADMIN)


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/open", None, 200),
        ("GET", "/open", "wrong-key-999", 200),
        ("POST", "/user/x", None, 401),
        ("POST", "/user/x", "wrong-key-999", 401),
        ("POST", "/user/x", USER, 200),
        ("POST", "/user/x", OTHER, 200),
        ("POST", "/user/x", ADMIN, 200),
        ("GET", "/user/x", None, 200),
        ("POST", "/admin", None, 401),
        ("POST", "/admin", USER, 403),
        ("POST", "/admin", ADMIN, 200),
        ("GET", "/forgotten", ADMIN, 404),
        ("GET", "/files/secret", ADMIN, 404),
        ("PUT", "/user/x", ADMIN, 405),
        ("GET", "/admin", ADMIN, 404),
        ("HEAD", "/open", None, 405),
        ("GET", "/open/", None, 404),
        ("GET", "//open", None, 404),
        ("GET", "/OPEN", None, 404),
        ("POST", "/%61dmin", None, 401),
        ("POST", "/user/..%2fadmin", None, 404),
        ("POST", "/./admin", None, 404),
        ("OPTIONS", "/user/x", None, 405),
        ("get", "/open", None, 405),
    ],
)
def test_who_passes_where(method: str, path: str, key: str | None, status: int) -> None:
    assert ask(toy(BOTH), method, path, keyed(key), [b"{}"]).status == status


def offered(*headers: tuple[str, str]) -> Said:
    return ask(toy(BOTH), "POST", "/user/x", [HOST, JSON, *headers], [b"{}"])


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ([("authorization", f"Bearer {USER}")], True),
        ([("authorization", f"bearer {USER}")], True),
        ([("authorization", f"BEARER   {USER} ")], True),
        ([("Authorization".lower(), f"Bearer\t{USER}")], False),
        ([("authorization", USER)], False),
        ([("authorization", f"Basic {USER}")], False),
        ([("authorization", f"Token {USER}")], False),
        ([("authorization", "Bearer")], False),
        ([("authorization", "Bearer ")], False),
        ([("authorization", f"Bearer {USER}, Bearer {USER}")], False),
        ([("authorization", f"Bearer {USER}"), ("authorization", f"Bearer {USER}")], False),
        ([("x-api-key", USER)], True),
        ([("x-api-key", f" {USER} ")], True),
        ([("x-api-key", f"Bearer {USER}")], False),
        ([("x-api-key", USER), ("x-api-key", USER)], False),
        ([("authorization", "Bearer wrong-key-999"), ("x-api-key", USER)], True),
        ([("cookie", f"key={USER}")], False),
        ([("api-key", USER)], False),
        ([("authorization", "Bearer \xff\xfe\x00\x80")], False),
        ([("authorization", "Bearer " + "x" * 10_000)], False),
    ],
)
def test_how_a_key_may_come(headers: list[tuple[str, str]], passes: bool) -> None:
    assert offered(*headers).status == (200 if passes else 401)


def test_a_key_in_the_address_is_none() -> None:
    assert ask(toy(BOTH), "POST", f"/user/x?api_key={USER}&key={USER}", pieces=[b"{}"]).status == 401


def test_the_answer_to_a_bad_key_does_not_tell_what_was_wrong_with_it() -> None:
    bodies = {
        offered(*headers).body
        for headers in (
            [],
            [("authorization", "Bearer wrong-key-999")],
            [("authorization", "Basic abc")],
            [("authorization", f"Bearer {USER[:-1]}")],
            [("x-api-key", ADMIN + "x")],
        )
    }
    assert len(bodies) == 1
    text = bodies.pop().decode()
    assert not any(word in text for word in (USER, ADMIN, "wrong", "expected", "length"))
    assert json.loads(text)["error"]["type"] == "authentication_error"


def test_keys_that_are_replaced_hold_from_the_next_request_on() -> None:
    held = {"keys": Keys([USER])}
    gate = toy(BOTH)
    gate._keys = lambda: held["keys"]
    assert ask(gate, "POST", "/user/x", keyed(USER), [b"{}"]).status == 200
    held["keys"] = Keys([OTHER])
    assert ask(gate, "POST", "/user/x", keyed(USER), [b"{}"]).status == 401
    assert ask(gate, "POST", "/user/x", keyed(OTHER), [b"{}"]).status == 200


def test_a_web_socket_is_closed_at_once() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    __import__("asyncio").run(toy(BOTH)({"type": "websocket", "path": "/open"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_table_finds_what_the_router_would_run(app: FastAPI) -> None:
    table = Table(app.routes)
    for route in app.routes:
        if isinstance(route, Route):
            method = sorted(route.methods or {"GET"})[0]
            found = table.find(method, filled(route.path)).entry
            assert found is not None
            scope = {"type": "http", "method": method, "path": filled(route.path), "headers": []}
            first = next(one for one in app.routes if one.matches(dict(scope))[0].value == 2)
            assert found.access is getattr(first.endpoint, MARK)  # type: ignore[attr-defined]


def test_anthropic_clients_hear_of_a_bad_key_in_their_own_words(app: FastAPI) -> None:
    said = ask(app, "POST", "/v1/messages", keyed("wrong-key-999"), UNREAD)
    if said.status == 401:
        assert json.loads(said.body)["type"] == "error"


def test_a_model_file_is_not_needed_to_make_an_application(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    next(tmp_path.iterdir()).unlink()
    assert create_app(config).routes
