"""Names and paths that clients send: none of them reaches a file, whatever it looks like."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from tests.serve.running import Running

MARK = "zq9"  # in every name, so that whoever uses one is recognised
WATCHED = (
    "open",
    "os.",
    "glob",
    "shutil",
    "subprocess",
    "socket.getaddrinfo",
    "socket.connect",
    "ctypes",
    "import",
)
_seen: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event.startswith(WATCHED) and MARK in repr(arguments):
        _seen.append(f"{event} {arguments!r}"[:300])


sys.addaudithook(_watch)


@contextmanager
def nothing_is_touched() -> Iterator[None]:
    """Nothing of this process, whichever thread it is, uses a name with the mark for anything."""
    global _seen
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


NAMES = [
    f"../{MARK}",
    f"../../../../etc/{MARK}",
    f"..\\..\\{MARK}",
    f"/etc/{MARK}",
    f"//host/share/{MARK}",
    f"C:\\{MARK}",
    f"file:///etc/{MARK}",
    f"~/{MARK}",
    f"~root/{MARK}",
    f"$HOME/{MARK}",
    f"./{MARK}",
    f"{MARK}/../tiny",
    f"tiny/../../{MARK}",
    f"tiny/{MARK}",
    f"{MARK}\0.gguf",
    f"tiny\0{MARK}",
    f"{MARK}\n",
    f"{MARK}\r\nx-injected: 1",
    f"{MARK}\t",
    f"\x1b[31m{MARK}",
    f"\u202e{MARK}",
    f"{MARK}\u2028",
    f"\u2024\u2024/{MARK}",
    f"\uff0e\uff0e/{MARK}",
    f"\uff0e\uff0e\uff0f{MARK}",
    f"..%2f{MARK}",
    f"%2e%2e/{MARK}",
    f"%2e%2e%2f{MARK}",
    f"%252e%252e%252f{MARK}",
    f"..%c0%af{MARK}",
    f"%00{MARK}",
    f"{MARK}%0d%0ax-injected: 1",
    f"hf:../../{MARK}",
    f"hf:org/{MARK}",
    f"pypi:{MARK}==1",
    f"pypi:{MARK}; rm -rf /",
    f"sha256:{MARK}",
    f"sha256-{'0' * 61}{MARK}",
    f"sha256:../../{MARK}",
    f"`{MARK}`",
    f"$({MARK})",
    f"{MARK}; ls",
    f"{MARK}*",
    f"{{{{{MARK}}}}}",
    f"{MARK}" + "x" * 4096,
    f"{'../' * 300}{MARK}",
    f"CON{MARK}",
    f"{MARK}.gguf",
    f"{MARK}:latest",
    f"tiny {MARK}",
    f"TINY{MARK}",
]


def say(server: Running, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    """One request, its path exactly as given."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        data = b"" if body is None else json.dumps(body).encode()
        if data:
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def check(status: int, headers: dict[str, str], body: bytes) -> None:
    assert 400 <= status < 500, (status, body)
    assert "x-injected" not in headers
    text = body.decode()
    assert "Traceback" not in text
    assert "/etc/" not in text.replace(f"/etc/{MARK}", ""), "nothing is told of this machine"
    assert len(text) < 2000


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_found_by_its_name_alone(name: str, server: Running) -> None:
    with nothing_is_touched():
        said = say(server, "POST", "/v1/completions", {"model": name, "prompt": "x", "max_tokens": 1})
    check(*said)


@pytest.mark.parametrize("name", NAMES)
def test_an_address_of_a_model_leads_nowhere_else(name: str, server: Running) -> None:
    with nothing_is_touched():
        said = say(server, "GET", "/v1/models/" + quote(name, safe="/%:;*().~$"))
    check(*said)


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_files_are_those_of_the_page(name: str, server: Running) -> None:
    with nothing_is_touched():
        said = say(server, "GET", "/assets/" + quote(name, safe="/%:;*().~$"))
    check(*said)


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/assets/../../app.py",
        "/assets/..%2f..%2fapp.py",
        "/assets/%2e%2e/app.py",
        "/assets/....//app.py",
        "/assets/",
        "/assets",
        "/assets/.",
        "/assets/..",
        "/static/../app.py",
        "/v1/models/../../health/x",
        "/v1/./models",
        "/v1//models",
        "/V1/MODELS",
        "/v1/models%00",
        "/v1/models/%00",
        "/.git/config",
        "/.env",
        "/openapi.json/../v1",
        "/" + "a" * 4096,
        "/" + "a/" * 2000,
        "/%",
        "/%zz",
        "/%ff%fe",
        "/*",
        "/?" + "x=1&" * 1000,
    ],
)
def test_other_addresses_are_none(path: str, server: Running) -> None:
    status, headers, body = say(server, "GET", path)
    if path.startswith("/?"):
        assert status == 200
        return
    check(status, headers, body)
    assert b"root:" not in body
    assert b"import" not in body
