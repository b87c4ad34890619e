"""A client that leaves, wherever its request is: it is computed no further than the step that runs, and what
it held is free again.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.serve.running import Running, config_for, running

from apportion.engine import LLM
from apportion.engine.assembly import Serving

GREEDY = {"temperature": 0, "ignore_eos": True}
FORM = {"type": "json_schema", "json_schema": {"name": "list", "schema": {"type": "array", "minItems": 40}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = config_for(tmp_path_factory.mktemp("models"), serving=Serving(concurrency=1))
    with running(config) as one:
        yield one


class Turnstile:
    """Steps of an engine, of which a chosen one stops half way until it is let go on."""

    def __init__(self, llm: LLM, stop_at: int) -> None:
        self.num_steps = 0
        self.is_there = threading.Event()
        self.may_go = threading.Event()
        self._run = llm.engine._executor.run
        self._stop_at = stop_at
        llm.engine._executor.run = self.run  # type: ignore[method-assign]
        self._llm = llm

    def run(self, items: Any) -> Any:
        self.num_steps += 1
        if self.num_steps == self._stop_at:
            self.is_there.set()
            assert self.may_go.wait(20)
        return self._run(items)

    def close(self) -> None:
        self.may_go.set()
        self._llm.engine._executor.run = self._run  # type: ignore[method-assign]


@contextmanager
def stopping(server: Running, stop_at: int) -> Iterator[Turnstile]:
    turnstile = Turnstile(server.site.models.loaded()["tiny"], stop_at)
    try:
        yield turnstile
    finally:
        turnstile.close()


def until(look: Callable[[], Any]) -> None:
    give_up = time.monotonic() + 15
    while not look():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.002)


def sent(server: Running, path: str, body: dict[str, Any]) -> http.client.HTTPConnection:
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    return connection


def leave(connection: http.client.HTTPConnection, way: str) -> None:
    assert connection.sock is not None
    if way == "reset":
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def holdings(llm: LLM) -> tuple[int, int, int, int]:
    """What requests hold of a model's memory."""
    engine = llm.engine
    return engine.num_running, engine.num_waiting, engine.space.promised, engine.space.available


def completion(words: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"prompt": "Once " * words, "max_tokens": 180, **GREEDY, **more}


def chat(**more: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "Look it up"}]
    return "/v1/chat/completions", {"messages": messages, "max_tokens": 60, "temperature": 0, **more}


PHASES: dict[str, tuple[tuple[str, dict[str, Any]], int]] = {
    "while its prompt is read": (completion(30, max_tokens=40), 1),
    "before its first token is out": (completion(), 2),
    "at its 2nd step": (completion(), 3),
    "at its 3rd step": (completion(), 4),
    "at its 4th step": (completion(), 5),
    "at its 5th step": (completion(), 6),
    "in a chat": (chat(), 3),
    "in a chat that is held to a form": (chat(response_format=FORM), 4),
    "with several answers": (completion(n=2, max_tokens=20), 3),
}


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", PHASES)
def test_who_leaves_is_dropped_within_a_step(phase: str, stream: bool, way: str, server: Running) -> None:
    (path, body), stop_at = PHASES[phase]
    llm = server.site.models.loaded()["tiny"]
    until(lambda: holdings(llm)[:3] == (0, 0, 0))
    before = holdings(llm)
    with stopping(server, stop_at) as turnstile:
        connection = sent(server, path, body | {"stream": stream})
        assert turnstile.is_there.wait(20)
        [answer] = server.site.pump.answers()
        leave(connection, way)
        until(lambda: all(request.cancelled for request in answer.requests))
        turnstile.may_go.set()
        until(lambda: holdings(llm) == before)
        assert turnstile.num_steps == stop_at, "nothing was computed after the step that ran"
    until(lambda: not server.site.pump.answers())
    until(lambda: server.site.work.num_inside == 0)


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_while_waiting_never_runs(stream: bool, way: str, server: Running) -> None:
    llm = server.site.models.loaded()["tiny"]
    until(lambda: holdings(llm)[:3] == (0, 0, 0))
    with stopping(server, 3) as turnstile:
        first = sent(server, *completion(max_tokens=200))
        assert turnstile.is_there.wait(20)
        turnstile.is_there.clear()
        second = sent(server, *completion(2, max_tokens=200, stream=stream))
        turnstile._stop_at = 6
        turnstile.may_go.set()
        until(lambda: llm.engine.num_waiting == 1)
        waiting = server.site.pump.answers()[-1]
        leave(second, way)
        until(lambda: waiting.requests[0].is_over)
        assert waiting.requests[0].num_computed == 0
        assert first.getresponse().status == 200, "who ran went on"
    until(lambda: holdings(llm)[:3] == (0, 0, 0))


def test_an_answer_that_was_whole_before_its_client_left_counts_as_answered(server: Running) -> None:
    llm = server.site.models.loaded()["tiny"]
    cancelled = llm.engine.counters.cancelled
    connection = sent(server, *completion(max_tokens=3))
    assert connection.getresponse().status == 200
    leave(connection, "reset")
    until(lambda: holdings(llm)[:3] == (0, 0, 0))
    assert llm.engine.counters.cancelled == cancelled
