"""Ids of requests, and what the log says of them."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from tests.serve.asgi import HOST, ask, echo

from apportion.serve.request_log import GONE, RECORD, Record, RequestLog, current_record


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.name == "apportion.requests"]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "apportion")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", True),
        ("A.b_c:d-9", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("-abc", False),
        ("a b", False),
        ("a\tb", False),
        ('a"b', False),
        ("a\x1b[31m", False),
        ("a\x00", False),
        ("a\x85b", False),
        ("\xe9", False),
        ("../../x", False),
        ("{}", False),
    ],
)
def test_a_clients_own_id_is_taken_if_it_can_stand_in_a_log(given: str, kept: bool) -> None:
    said = ask(RequestLog(echo), "GET", "/", [HOST, ("x-request-id", given)])
    told = said.headers["x-request-id"]
    assert (told == given) == kept
    assert kept or re.fullmatch(r"req_[0-9a-f]{24}", told)


def test_two_ids_are_none() -> None:
    said = ask(RequestLog(echo), "GET", "/", [HOST, ("x-request-id", "a1"), ("x-request-id", "a1")])
    assert said.headers["x-request-id"].startswith("req_")


def test_client_and_log_share_the_id(caplog: pytest.LogCaptureFixture) -> None:
    said = ask(RequestLog(echo), "POST", "/", pieces=[b"x" * 10])
    [line] = lines(caplog)
    assert line["request_id"] == said.headers["x-request-id"]
    assert (line["status"], line["method"]) == (200, "POST")
    assert line["seconds"] >= line["first_s"] >= 0


def test_no_path_key_or_body_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    headers = [HOST, ("authorization", "Bearer sesame-key-1"), ("cookie", "sesame"), ("user-agent", "sesame")]
    ask(RequestLog(echo), "POST", "/sesame/path?key=sesame", headers, [b"sesame"])
    assert "sesame" not in json.dumps(lines(caplog))


def test_a_route_is_told_by_its_template(caplog: pytest.LogCaptureFixture) -> None:
    async def routed(scope: Any, receive: Any, send: Any) -> None:
        scope["apportion.route"] = "/v1/models/{name}"
        scope[RECORD].output_tokens = 7
        await echo(scope, receive, send)

    ask(RequestLog(routed), "GET", "/v1/models/private-name")
    [line] = lines(caplog)
    assert line["route"] == "/v1/models/{name}"
    assert line["output_tokens"] == 7
    assert "private-name" not in json.dumps(line)


def test_what_nobody_caught_is_told_to_the_log_and_not_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the secret is in /srv/private/place")

    caplog.set_level(logging.INFO, "apportion")
    said = ask(RequestLog(broken), "GET", "/")
    assert said.status == 500
    assert said.headers["x-request-id"] in said.error["message"]
    assert b"secret" not in said.body
    assert "secret" not in caplog.text
    assert lines(caplog)[-1]["status"] == 500


def test_an_answer_that_breaks_off_is_broken_off(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        ask(RequestLog(broken), "GET", "/")


def test_a_client_that_left_is_logged_as_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def left(scope: Any, receive: Any, send: Any) -> None:
        raise ClientDisconnect

    ask(RequestLog(left), "GET", "/")
    assert lines(caplog)[-1]["status"] == GONE


def test_who_runs_on_a_requests_behalf_finds_its_record() -> None:
    found: list[Record | None] = []

    async def looking(scope: Any, receive: Any, send: Any) -> None:
        found.append(current_record())
        await echo(scope, receive, send)

    said = ask(RequestLog(looking), "GET", "/")
    assert found[0] is not None
    assert found[0].request_id == said.headers["x-request-id"]
