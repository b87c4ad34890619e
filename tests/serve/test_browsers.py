"""Pages of other origins, and names that the server does not go by."""

from __future__ import annotations

import pytest
from tests.serve.asgi import HOST, ask, echo

from apportion.serve.browsers import Browsers, HostNames

LOCAL = HostNames("127.0.0.1")
PUBLIC = HostNames("0.0.0.0", ["llm.example"])


def guarded(names: HostNames = LOCAL, origins: tuple[str, ...] = ()) -> Browsers:
    return Browsers(echo, lambda: names, origins)


@pytest.mark.parametrize(
    ("host", "local", "public"),
    [
        ("127.0.0.1", True, True),
        ("127.0.0.1:8080", True, True),
        ("localhost:8080", True, True),
        ("LocalHost", True, True),
        ("[::1]:8080", True, True),
        ("[::1]", True, True),
        ("llm.example", False, True),
        ("LLM.example:443", False, True),
        ("192.168.1.7:8080", False, True),
        ("[fe80::1]", False, True),
        ("evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("localhost.evil.example", False, False),
        ("evil.example:127.0.0.1", False, False),
        ("llm.example.evil.example", False, False),
        ("localhost:8080@evil.example", False, False),
        ("localhost:", False, False),
        ("localhost:8080:1", False, False),
        ("localhost:99999999", False, False),
        ("localhost.", False, False),
        ("", False, False),
        (":8080", False, False),
        ("[::1", False, False),
        ("[localhost]", False, False),
        ("::1", False, False),
        ("localhost,evil.example", False, False),
        (" localhost", False, False),
        ("127.1", False, False),
        ("0x7f000001", False, False),
        ("2130706433", False, False),
        ("localhost\0", False, False),
        ("l\xf6calhost", False, False),
    ],
)
def test_names_that_the_server_goes_by(host: str, local: bool, public: bool) -> None:
    for names, expected in ((LOCAL, local), (PUBLIC, public)):
        said = ask(guarded(names), "GET", "/", [("host", host)])
        assert (said.status == 200) == expected, said.body


def test_a_request_without_a_name_or_with_two_is_refused() -> None:
    assert ask(guarded(), "GET", "/", []).status == 403
    assert ask(guarded(), "GET", "/", [HOST, ("host", "evil.example")]).status == 403


def test_any_name_will_do_where_that_was_asked_for() -> None:
    assert (
        ask(guarded(HostNames("127.0.0.1", ["*"])), "GET", "/", [("host", "whatever.example")]).status == 200
    )


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": ""}, False),
        ({"sec-fetch-site": "Same-Origin"}, False),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "https://127.0.0.1:8080"}, True),
        ({"origin": "http://127.0.0.1:9090"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://127.0.0.1:8080.evil.example"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://friend.example", "sec-fetch-site": "cross-site"}, True),
        ({"origin": "http://FRIEND.example"}, True),
        ({"origin": "http://friend.example:81"}, False),
        ({"origin": "https://friend.example"}, False),
    ],
)
def test_who_may_change_something(headers: dict[str, str], passes: bool) -> None:
    app = guarded(origins=("http://friend.example",))
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        assert (ask(app, method, "/", [HOST, *headers.items()]).status == 200) == passes
    assert ask(app, "GET", "/", [HOST, *headers.items()]).status == 200, "who only looks is not asked"


def test_no_page_of_another_origin_may_read_an_answer_unless_that_was_allowed() -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8080"):
        said = ask(guarded(), "GET", "/", [HOST, ("origin", origin)])
        assert not [name for name in said.headers if name.startswith("access-control")]
    said = ask(
        guarded(origins=("http://friend.example",)), "GET", "/", [HOST, ("origin", "http://evil.example")]
    )
    assert "access-control-allow-origin" not in said.headers


def test_an_origin_that_was_allowed_may_ask_and_read_without_credentials_of_the_browser() -> None:
    app = guarded(origins=("http://friend.example",))
    before = [
        HOST,
        ("origin", "http://friend.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type"),
    ]
    asked = ask(app, "OPTIONS", "/", before)
    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == "http://friend.example"
    said = ask(app, "POST", "/", [HOST, ("origin", "http://friend.example")])
    assert said.headers["access-control-allow-origin"] == "http://friend.example"
    assert "access-control-allow-credentials" not in {**asked.headers, **said.headers}


def test_the_refusal_does_not_repeat_what_was_sent() -> None:
    said = ask(guarded(), "GET", "/", [("host", "evil.example")])
    assert b"evil" not in said.body
