"""The short way of a stream's pieces: in order with the long one, and nobody can tell them apart."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from tests.serve.running import Running

from apportion.engine.completion import Delta
from apportion.serve.answer import Answer, Batch
from apportion.serve.pipe import PIPE, Pipe, offer_pipe, pipe_of

BODY = {"prompt": "Once", "max_tokens": 40, "temperature": 0, "ignore_eos": True, "stream": True}


def batch(number: int) -> Batch:
    return [(0, Delta(str(number), number))]


def answer() -> Answer:
    return Answer(None, [], lambda one: None)  # type: ignore[arg-type]


class Way:
    """A sink that is free or not."""

    def __init__(self) -> None:
        self.is_free = True
        self.got: list[int | None] = []

    def __call__(self, batch: Batch) -> bool:
        if self.is_free:
            self.got += [delta.token_id for _, delta in batch]
        return self.is_free


async def read_into(one: Answer, got: list[int | None]) -> None:
    async for batch in one:
        got += [delta.token_id for _, delta in batch]


def test_what_waits_goes_before_what_comes() -> None:
    """A piece goes straight only where the reader has sent everything before it."""

    async def play() -> tuple[list[int | None], list[int | None]]:
        one, way = answer(), Way()
        read: list[int | None] = []
        one.sink = way
        one.put(batch(0), False)  # nobody has begun to read
        reader = asyncio.create_task(read_into(one, read))
        await asyncio.sleep(0)
        one.put(batch(1), False)
        way.is_free = False
        one.put(batch(2), False)
        way.is_free = True  # free again before the reader has had its turn: it has 2 in its hands yet
        one.put(batch(3), False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.put(batch(4), False)
        assert one.backlog == -5  # all taken; nobody counted them as given here
        one.put(batch(5), True)
        await reader
        return way.got, read

    straight, read = asyncio.run(play())
    assert (straight, read) == ([1, 4], [0, 2, 3, 5])


def test_a_reader_that_is_busy_gets_the_piece_itself() -> None:
    async def play() -> list[int | None]:
        one, way = answer(), Way()
        seen: list[int | None] = []
        one.sink = way
        sending = asyncio.Event()

        async def read() -> None:
            async for batch in one:
                seen.extend(delta.token_id for _, delta in batch)
                await sending.wait()  # as long as the connection takes no more

        reader = asyncio.create_task(read())
        one.put(batch(0), False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.put(batch(1), False)
        sending.set()
        one.put(batch(2), True)
        await reader
        assert way.got == []
        return seen

    assert asyncio.run(play()) == [0, 1, 2]


def test_a_piece_that_cannot_be_written_down_fails_its_answer_alone() -> None:
    def broken(batch: Batch) -> bool:
        raise ValueError("no words")

    async def play() -> None:
        one = answer()
        one.sink = broken
        reader = asyncio.create_task(read_into(one, []))
        await asyncio.sleep(0)
        one.put(batch(0), False)
        one.put(batch(1), True)  # what is computed meanwhile comes too late
        await reader

    with pytest.raises(ValueError, match="no words"):
        asyncio.run(play())


class Flow:
    write_paused = False


class Cycle:
    """What a pipe sees of an answer's state."""

    def __init__(self) -> None:
        self.response_started, self.response_complete, self.disconnected = True, False, False
        self.flow, self.transport = Flow(), self
        self.sent = b""
        self.is_ending = False

    def is_closing(self) -> bool:
        return self.is_ending

    def write(self, data: bytes) -> None:
        self.sent += data


def test_a_pipe_is_free_while_its_answer_runs_and_the_client_reads() -> None:
    cycle: Any = Cycle()
    pipe = Pipe(cycle)
    assert pipe.is_free
    pipe.write(b"x" * 26)
    assert cycle.sent == b"1a\r\n" + b"x" * 26 + b"\r\n"
    cycle.flow.write_paused = True
    assert not pipe.is_free
    cycle.flow.write_paused = False
    for name, value in (("disconnected", True), ("response_complete", True), ("is_ending", True)):
        other: Any = Cycle()
        setattr(other, name, value)
        assert not Pipe(other).is_free, name
    early: Any = Cycle()
    early.response_started = False
    assert not Pipe(early).is_free


@pytest.mark.parametrize(("version", "offered"), [("1.1", True), ("1.0", False)])
def test_only_an_answer_in_chunks_has_one(version: str, offered: bool) -> None:
    scope: dict[str, Any] = {"http_version": version}
    offer_pipe(scope, Cycle())  # type: ignore[arg-type]
    assert (pipe_of(scope) is not None) == offered
    assert (PIPE in scope.get("extensions", {})) == offered


def exchanged(server: Running, version: str) -> tuple[bytes, bytes]:
    """Head and body of a stream as they come over the socket."""
    data = json.dumps(BODY).encode()
    head = f"POST /v1/completions HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as one:
        one.sendall(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        said = b"".join(iter(lambda: one.recv(65536), b""))
    head_of, _, body = said.partition(b"\r\n\r\n")
    return head_of, body


def unchunked(body: bytes) -> list[bytes]:
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        assert body[length : length + 2] == b"\r\n"
        if length:
            found.append(body[:length])
        body = body[length + 2 :]
    return found


def texts(events: bytes) -> str:
    lines = [line.removeprefix(b"data: ") for line in events.splitlines() if line.startswith(b"data: {")]
    return "".join(json.loads(line)["choices"][0]["text"] for line in lines)


def test_both_ways_bring_the_same(server: Running) -> None:
    """HTTP 1.0 has no chunks, so all of its pieces go the long way."""
    head, body = exchanged(server, "1.1")
    assert b"transfer-encoding: chunked" in head.lower()
    pieces = unchunked(body)
    assert len(pieces) >= 2, "the end is a piece of its own; how many tokens come together is a race"
    assert pieces[-1] == b"data: [DONE]\n\n"
    old_head, old_body = exchanged(server, "1.0")
    assert b"chunked" not in old_head.lower()
    assert texts(b"".join(pieces)) == texts(old_body) != ""
