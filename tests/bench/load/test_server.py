"""Where a server is, and what it is asked."""

from __future__ import annotations

import json
import socket

import pytest
from tests.bench.load.scripted_server import Script, ScriptedServer

from apportion.bench.load.exchange import Address
from apportion.bench.load.server import Server, address_of, model_of, said
from apportion.core.errors import SourceError, UsageError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("127.0.0.1:8080/v1/", Address("127.0.0.1", 8080)),
        ("https://example.com/llm/v1", Address("example.com", 443, "/llm", tls=True)),
        ("http://[::1]:90", Address("::1", 90)),
    ],
)
def test_addresses_are_understood(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://a:b@c", "http://x:99999", "http://x/?a=b"])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        address_of(url)


def test_the_first_model_that_is_listed_is_taken() -> None:
    with ScriptedServer(lambda _: Script()) as scripted:
        assert model_of(address_of(scripted.url), "") == "scripted"


def test_nobody_there_is_an_error_that_says_where() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(SourceError, match=f"127.0.0.1:{port} does not answer"):
            model_of(Address("127.0.0.1", port), "")


def test_requests_are_greedy_of_one_length_and_streamed() -> None:
    server = Server(Address("h", 1), "m", "completions")
    body = json.loads(server.request("text", 5).partition(b"\r\n\r\n")[2])
    assert body == {
        "model": "m",
        "prompt": "text",
        "max_tokens": 5,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    plain = Server(Address("h", 1), "m", ignore_eos=False).request("text", 5, stream=False)
    assert {"ignore_eos", "stream"}.isdisjoint(json.loads(plain.partition(b"\r\n\r\n")[2]))


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Server(Address("h", 1), "m", key="secret"))


def test_words_of_an_error_are_found() -> None:
    assert said({"error": {"message": "too long\nby far"}}) == "too long"
    assert said({"error": "plain"}) == "plain"
    assert said([1]) == said({"error": 3}) == ""
