"""Whatever one client does, another's answer is what it is alone, token for token."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from tests.serve.running import Running

GOOD = {"prompt": "Once upon a time", "max_tokens": 120, "temperature": 0, "ignore_eos": True, "logprobs": 1}
SHORT = {"prompt": "Two", "max_tokens": 4}

NEIGHBOURS: dict[str, tuple[str, Any]] = {
    "no JSON": ("/v1/completions", b"{"),
    "no body": ("/v1/completions", b""),
    "deep JSON": ("/v1/completions", b"[" * 100_000),
    "not a number": ("/v1/completions", b'{"prompt": "a", "temperature": NaN}'),
    "an unknown model": ("/v1/completions", SHORT | {"model": "none"}),
    "a prompt that is too long": ("/v1/completions", {"prompt": "a" * 5000}),
    "too many answers": ("/v1/completions", SHORT | {"n": 1000}),
    "tokens outside the vocabulary": ("/v1/completions", {"prompt": [10**9]}),
    "a pattern that is none": ("/v1/completions", SHORT | {"regex": "foo**"}),
    "a pattern that explodes": ("/v1/completions", SHORT | {"regex": "(a|a)*(a|a)*(a|a)*b{1,1000}"}),
    "a schema that nothing meets": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "a"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": False}},
        },
    ),
    "all tokens forbidden": ("/v1/completions", SHORT | {"logit_bias": {str(i): -100 for i in range(1000)}}),
    "the wildest sampling": ("/v1/completions", SHORT | {"temperature": 2, "top_k": 1, "seed": 1}),
    "the same prompt": ("/v1/completions", GOOD),
    "many answers": ("/v1/completions", {"prompt": "Once upon", "max_tokens": 8, "n": 8}),
    "stop strings": ("/v1/completions", SHORT | {"stop": ["a", "e", "\n"]}),
    "penalties": ("/v1/completions", SHORT | {"presence_penalty": 2, "frequency_penalty": -2}),
}


def good(server: Running) -> dict[str, Any]:
    said = httpx.post(f"{server.url}/v1/completions", json=GOOD, timeout=60)
    assert said.status_code == 200, said.text
    choice: dict[str, Any] = said.json()["choices"][0]
    return choice


@pytest.fixture(scope="module")
def alone(server: Running) -> dict[str, Any]:
    return good(server)


def beside(server: Running, act: Any) -> dict[str, Any]:
    """The good answer while something else is done over and over."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            act()

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for one in threads:
        one.start()
    try:
        return good(server)
    finally:
        over.set()
        for one in threads:
            one.join(20)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbour_changes_nothing(name: str, server: Running, alone: dict[str, Any]) -> None:
    path, body = NEIGHBOURS[name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def ask() -> None:
        said = httpx.post(
            server.url + path, content=data, headers={"content-type": "application/json"}, timeout=60
        )
        assert said.status_code < 500, said.text

    assert beside(server, ask) == alone


@pytest.mark.parametrize("way", ["leaves", "says nonsense", "says nothing"])
def test_a_rude_neighbour_changes_nothing(way: str, server: Running, alone: dict[str, Any]) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(GOOD | {"stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    data = {
        "leaves": head + b"content-length: %d\r\n\r\n" % len(body) + body,
        "says nonsense": b"\x16\x03\x01" * 20,
        "says nothing": b"",
    }[way]

    def ask() -> None:
        with socket.create_connection((host, int(port)), timeout=10) as one:
            one.sendall(data)
            if data:
                one.recv(10)
            else:
                time.sleep(0.005)  # not as many as there may be at once

    assert beside(server, ask) == alone
