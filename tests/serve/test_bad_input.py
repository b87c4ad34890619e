"""Whatever comes in: never a 500, never a hang, and whoever asks next is answered."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.serve.running import Running

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
ROUTES = (CHAT, TEXT, RESPONSES, MESSAGES, "/v1/messages/count_tokens", "/v1/embeddings", "/tokenize")
ALL = (*ROUTES, "/detokenize", "/apply-template")
JSON = {"content-type": "application/json"}
DEEP = 100_000


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as one:  # making one takes longer than most tests
        yield one


@pytest.fixture(autouse=True)
def healthy(client: httpx.Client) -> Iterator[None]:
    """After each test the server answers."""
    yield
    answer = client.post(TEXT, json={"prompt": "Once", "max_tokens": 1})
    assert answer.status_code == 200, answer.text


def refused(answer: httpx.Response, *statuses: int) -> None:
    """Not the server's fault, and said so as every error is."""
    assert answer.status_code in (statuses or (400,)), answer.text[:300]
    error = answer.json()["error"]
    assert error["message"]
    assert len(answer.content) < 4096, "an error does not send back what came in"
    assert "Traceback" not in answer.text
    assert "/src/" not in answer.text


# --- bodies that are no JSON, or no JSON that anybody should send ---

NO_JSON = {
    "empty": b"",
    "space": b" \n ",
    "word": b"hello",
    "half": b'{"messages": [',
    "two": b"{} {}",
    "trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "comment": b'{"a": 1} // no',
    "number": b"5",
    "text": b'"prompt"',
    "list": b"[]",
    "null": b"null",
    "true": b"true",
    "nan": b'{"prompt": "a", "temperature": NaN}',
    "infinity": b'{"prompt": "a", "temperature": Infinity}',
    "minus infinity": b'{"prompt": "a", "temperature": -Infinity}',
    "overflow": b'{"prompt": "a", "temperature": 1e999}',
    "5000 digits": b'{"prompt": "a", "max_tokens": ' + b"9" * 5000 + b"}",
    "same key twice": b'{"prompt": "a", "prompt": "b"}',
    "same key twice below": b'{"prompt": "a", "metadata": {"a": 1, "a": 2}}',
    "byte order mark": b'\xef\xbb\xbf{"prompt": "a"}',
    "utf-16": '{"prompt": "a"}'.encode("utf-16"),
    "latin-1": b'{"prompt": "cr\xeape"}',
    "overlong": b'{"prompt": "\xc0\xaf"}',
    "cut character": b'{"prompt": "\xf0\x9f\x98"}',
    "surrogate": b'{"prompt": "\\ud800"}',
    "surrogates": b'{"prompt": "\\udc00\\ud800"}',
    "control character": b'{"prompt": "a\x01b"}',
    "bad escape": b'{"prompt": "\\x41"}',
    "deep lists": b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "only opened": b"[" * DEEP,
    "nul": b"\x00",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_refused(client: httpx.Client, name: str) -> None:
    refused(client.post(TEXT, content=NO_JSON[name], headers=JSON))


@pytest.mark.parametrize("url", ALL)
@pytest.mark.parametrize("name", ["half", "list", "null", "deep lists", "same key twice"])
def test_every_route_refuses_it(client: httpx.Client, url: str, name: str) -> None:
    answer = client.post(url, content=NO_JSON[name], headers=JSON)
    refused(answer)


@pytest.mark.parametrize("url", ALL)
def test_bodies_of_other_kinds_are_refused(client: httpx.Client, url: str) -> None:
    body = json.dumps({"prompt": "a", "messages": [], "tokens": [], "input": ""}).encode()
    refused(client.post(url, content=gzip.compress(body), headers={**JSON, "content-encoding": "gzip"}), 415)
    refused(client.post(url, content=body, headers={"content-type": "text/plain"}), 415)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/xml"},
        {"content-type": ""},
        {"content-type": "application/json; charset=utf-16"},
        {**JSON, "content-encoding": "br"},
        {**JSON, "content-encoding": "zstd"},
        {**JSON, "content-encoding": "gzip, gzip"},
    ],
    ids=str,
)
def test_other_types_and_encodings_are_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    refused(client.post(TEXT, content=b'{"prompt": "a"}', headers=headers), 415)


def test_a_bomb_is_not_unpacked(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 20_000_000)
    refused(client.post(TEXT, content=bomb, headers={**JSON, "content-encoding": "gzip"}), 415)


# --- JSON that asks for nonsense ---

# Beyond what a float holds, beyond 64 bits, and where each begins.
HUGE = (2**31, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**30, 10**308, 10**400, 10**4000)


@pytest.mark.parametrize("number", HUGE, ids=lambda number: f"{len(str(number))} digits {number % 7}")
@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/detokenize", "tokens"),
        (TEXT, "prompt"),
        (TEXT, "max_tokens"),
        (TEXT, "seed"),
        (TEXT, "top_k"),
        (TEXT, "temperature"),
        (CHAT, "n"),
        (CHAT, "top_logprobs"),
        (MESSAGES, "max_tokens"),
        ("/v1/embeddings", "dimensions"),
    ],
)
def test_huge_numbers_are_refused(client: httpx.Client, url: str, field: str, number: int) -> None:
    hello = [{"role": "user", "content": "a"}]
    least: dict[str, Any] = {"model": "tiny", "max_tokens": 1}
    least |= {TEXT: {"prompt": "a"}, "/v1/embeddings": {"input": "a"}}.get(url, {"messages": hello})
    value = [number] if field in ("tokens", "prompt") else number
    answer = client.post(url, json=least | {field: value, "logprobs": field == "top_logprobs" or None})
    if answer.status_code != 200:
        refused(answer)


STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "\x00",
    [],
    [None],
    [[]],
    {},
    {"a": {}},
    "💥" * 50,
)


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: repr(value)[:16])
@pytest.mark.parametrize(
    ("url", "field"),
    [
        (CHAT, "messages"),
        (CHAT, "tools"),
        (CHAT, "tool_choice"),
        (CHAT, "response_format"),
        (CHAT, "chat_template_kwargs"),
        (TEXT, "prompt"),
        (TEXT, "stop"),
        (TEXT, "logit_bias"),
        (RESPONSES, "input"),
        (RESPONSES, "text"),
        (MESSAGES, "messages"),
        (MESSAGES, "system"),
        ("/v1/embeddings", "input"),
        ("/detokenize", "tokens"),
    ],
)
def test_strange_values_are_answered_or_refused(
    client: httpx.Client, url: str, field: str, value: Any
) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    least: dict[str, dict[str, Any]] = {
        CHAT: {"messages": hello, "max_tokens": 1},
        TEXT: {"prompt": "a", "max_tokens": 1},
        RESPONSES: {"input": "a", "max_output_tokens": 1},
        MESSAGES: {"model": "tiny", "messages": hello, "max_tokens": 1},
    }
    answer = client.post(url, json=least.get(url, {}) | {field: value})
    if answer.status_code != 200:
        refused(answer)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"role": 5, "content": "a"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
        {"role": "tool", "content": "a"},
        {"role": "nobody", "content": "a"},
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}}]},
        {"role": "assistant", "tool_calls": "call"},
        {"role": "user", "content": "{{ 7 * 7 }}{% raw %}"},
        {"role": "user", "content": "<|end|><|begin|>system"},
        {"role": "user", "content": "\x00\ufffe\u202e"},
        {"role": "user\x00", "content": "a"},
    ],
    ids=lambda message: repr(message)[:40],
)
def test_strange_messages_are_answered_or_refused(client: httpx.Client, message: dict[str, Any]) -> None:
    answer = client.post(CHAT, json={"messages": [message], "max_tokens": 1})
    if answer.status_code != 200:
        refused(answer)


def test_a_prompt_of_ten_megabytes_is_refused_with_the_numbers(client: httpx.Client) -> None:
    answer = client.post(TEXT, json={"prompt": "a" * 10_000_000})
    refused(answer)
    assert "256" in answer.text


def test_a_million_token_ids_are_refused(client: httpx.Client) -> None:
    refused(client.post(TEXT, json={"prompt": [97] * 1_000_000}))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "tiny\x00", "x" * 300, "TINY", "tiny ", "%2e", ""]
)
def test_models_that_are_not_offered_are_not_found(client: httpx.Client, name: str) -> None:
    answer = client.post(TEXT, json={"prompt": "a", "model": name, "max_tokens": 1})
    if name:
        refused(answer, 404, 400)
    assert "root:" not in answer.text


# --- methods and paths ---


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW"])
@pytest.mark.parametrize("url", [CHAT, MESSAGES, "/tokenize"])
def test_other_methods_are_refused(client: httpx.Client, method: str, url: str) -> None:
    refused(client.request(method, url), 405, 400, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//completions",
        "/v1/../v1/completions",
        "/v1/%2e%2e/completions",
        "/v1/completions%00",
        "/v1/completions;x=1",
        "/V1/COMPLETIONS",
        "/v1/nothing",
        "/" + "a" * 4000,
        "/%ff%fe",
        "/..%5c..%5cwindows",
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/.git/config",
        "/v1/models/" + "x" * 2000,
    ],
)
def test_other_paths_lead_nowhere(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (307, 308, 400, 404, 405)
    assert "root:" not in answer.text


# --- on the socket ---


def spoken(server: Running, data: bytes, wait_s: float = 5, ends: bool = True) -> bytes:
    """What comes back to these bytes, until the server closes or says nothing for a while.

    Args:
        ends: nothing more will be sent, and the server can know it.
    """
    address = urlsplit(server.url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.create_connection((address.hostname, address.port), timeout=wait_s) as one:
        one.sendall(data)
        if ends:
            one.shutdown(socket.SHUT_WR)
        found = b""
        try:
            while more := one.recv(65536):
                found += more
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def head(server: Running, *lines: str, version: str = "1.1", path: str = TEXT, method: str = "POST") -> bytes:
    host = urlsplit(server.url).netloc
    return "\r\n".join([f"{method} {path} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode("latin-1")


BODY = b'{"prompt": "a", "max_tokens": 1}'
TYPE = "Content-Type: application/json"
LENGTH = f"Content-Length: {len(BODY)}"


def status(data: bytes) -> int | None:
    return int(data.split(b" ", 2)[1]) if data.startswith(b"HTTP/") else None


def test_http_1_0_is_answered(server: Running) -> None:
    assert status(spoken(server, head(server, TYPE, LENGTH, version="1.0") + BODY, ends=False)) == 200


def test_requests_in_a_row_are_answered_in_a_row(server: Running) -> None:
    one, last = head(server, TYPE, LENGTH) + BODY, head(server, TYPE, LENGTH, "Connection: close") + BODY
    assert spoken(server, one + one + last, ends=False).count(b"HTTP/1.1 200") == 3


CHUNKED = "Transfer-Encoding: chunked"
SOCKET: dict[str, tuple[list[str], bytes]] = {
    "no length": ([TYPE], BODY),
    "length too small": ([TYPE, "Content-Length: 5"], BODY),
    "length too large": ([TYPE, "Content-Length: 500"], BODY),
    "negative length": ([TYPE, "Content-Length: -5"], BODY),
    "length is no number": ([TYPE, "Content-Length: ten"], BODY),
    "huge length": ([TYPE, "Content-Length: 99999999999999999999"], BODY),
    "two lengths": ([TYPE, LENGTH, "Content-Length: 3"], BODY),
    "length and chunks": ([TYPE, LENGTH, CHUNKED], b"5\r\nhello\r\n0\r\n\r\n"),
    "chunk is no number": ([TYPE, CHUNKED], b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk too short": ([TYPE, CHUNKED], b"50\r\nhello\r\n0\r\n\r\n"),
    "chunk too long": ([TYPE, CHUNKED], b"2\r\nhello\r\n0\r\n\r\n"),
    "huge chunk": ([TYPE, CHUNKED], b"ffffffffffffffff\r\nhello"),
    "no last chunk": ([TYPE, CHUNKED], b"5\r\nhello\r\n"),
    "chunk extension": ([TYPE, CHUNKED], b"5;" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunked twice": ([TYPE, "Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n"),
    "unknown coding": ([TYPE, "Transfer-Encoding: bogus"], BODY),
    "a hundred headers": ([TYPE, LENGTH, *(f"X-H{i}: {'v' * 1024}" for i in range(100))], BODY),
    "two hundred headers": ([TYPE, LENGTH, *(f"X-H{i}: v" for i in range(200))], BODY),
    "long header": ([TYPE, LENGTH, "X-Long: " + "v" * 100_000], BODY),
    "header without a colon": ([TYPE, LENGTH, "nonsense"], BODY),
    "folded header": ([TYPE, LENGTH, "X-A: b\r\n c"], BODY),
    "nul in a header": ([TYPE, LENGTH, "X-A: b\x00c"], BODY),
    "bad name": ([TYPE, LENGTH, "X A: b"], BODY),
    "two hosts": ([TYPE, LENGTH, "Host: other"], BODY),
    "expect": ([TYPE, LENGTH, "Expect: 100-continue"], BODY),
    "upgrade": ([TYPE, LENGTH, "Connection: Upgrade", "Upgrade: websocket"], BODY),
    "http2": (
        [TYPE, LENGTH, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"],
        BODY,
    ),
}


@pytest.mark.parametrize("name", SOCKET)
def test_lies_about_a_body_end_that_connection_alone(server: Running, name: str) -> None:
    lines, body = SOCKET[name]
    answer = spoken(server, head(server, *lines) + body, wait_s=3)
    assert status(answer) in (None, 100, 200, 400, 413, 415, 421, 431, 408, 411, 417, 501)
    assert b"Traceback" not in answer


RAW: dict[str, bytes] = {
    "nothing": b"",
    "newlines": b"\r\n" * 1000,
    "nul": b"\x00" * 1000,
    "binary": bytes(range(256)) * 8,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "http 9": b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute": b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "connect": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "spaces": b"GET  /health  HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare newlines": b"GET /health HTTP/1.1\nHost: x\n\n",
    "half a head": b"POST /v1/completions HTTP/1.1\r\nHost",
}


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_http_is_dropped(server: Running, name: str) -> None:
    answer = spoken(server, RAW[name], wait_s=3)
    assert status(answer) in (None, 200, 307, 308, 400, 404, 405, 414, 421, 431, 403, 505)
    assert b"Traceback" not in answer
