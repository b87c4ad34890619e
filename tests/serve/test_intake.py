"""Bodies at their limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.serve.asgi import HOST, JSON, ask, asked, echo

from apportion.serve.intake import Bodies, Room

MOST = 1000


def bounded(app: Any = echo, room: Room | None = None) -> Bodies:
    return Bodies(app, lambda: MOST, room or Room(10 * MOST))


def declared(length: object) -> list[tuple[str, str]]:
    return [HOST, JSON, ("content-length", str(length))]


@pytest.mark.parametrize(
    ("size", "status"), [(0, 200), (1, 200), (MOST, 200), (MOST + 1, 413), (10 * MOST, 413)]
)
@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("num_pieces", [1, 7])
def test_a_body_at_its_limit_and_beyond(size: int, status: int, says: bool, num_pieces: int) -> None:
    step = -(-size // num_pieces) or 1
    pieces = [b"x" * min(step, size - start) for start in range(0, size, step)] or [b""]
    headers = declared(size) if says else [HOST, JSON, ("transfer-encoding", "chunked")]
    room = Room(100 * MOST)
    said = ask(bounded(room=room), "POST", "/", headers, pieces)
    assert said.status == status, said.body
    assert room.used_nbytes == 0
    if status == 200:
        assert int(said.body) == size
    elif says:
        assert said.num_read == 0, "what says that it is too large is not read"


def test_a_body_that_is_larger_than_it_says_is_not_read_to_its_end() -> None:
    said = ask(bounded(), "POST", "/", [HOST, JSON, ("transfer-encoding", "chunked")], [b"x" * 400] * 50)
    assert (said.status, said.num_read) == (413, 3)


@pytest.mark.parametrize("length", ["-1", "1e3", "ten", "0x10", "1 0", "+5", "\xb2", ""])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    assert ask(bounded(), "POST", "/", declared(length), [b"x"]).status == 400


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-gzip", "identity, gzip", "*"]
)
def test_compressed_bodies_are_refused_unread(encoding: str) -> None:
    said = ask(bounded(), "POST", "/", [*declared(5), ("content-encoding", encoding)], [b"xxxxx"])
    assert (said.status, said.num_read) == (415, 0)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/json", 415),
        ("application/jsonx", 415),
        ("text/plain; application/json", 415),
        ("", 415),
    ],
)
def test_bodies_must_be_json_so_that_no_form_of_a_page_passes(kind: str, status: int) -> None:
    headers = [HOST, ("content-length", "2"), ("content-type", kind)]
    assert ask(bounded(), "POST", "/", headers, [b"{}"]).status == status


def test_without_a_body_no_type_is_needed() -> None:
    assert ask(bounded(), "POST", "/", [HOST]).status == 200
    assert ask(bounded(), "GET", "/", [HOST]).status == 200


def test_all_bodies_together_are_bounded_and_their_room_comes_back() -> None:
    room = Room(2 * MOST)

    async def many() -> list[int]:
        gate = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await gate.wait()
            await PlainTextResponse("read")(scope, receive, send)

        app = bounded(slow, room)
        tasks = [asyncio.create_task(asked(app, "POST", "/", declared(900), [b"x" * 900])) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert room.used_nbytes == 1800
        gate.set()
        return [said.status for said in await asyncio.gather(*tasks)]

    assert sorted(asyncio.run(many())) == [200, 200, 503, 503]
    assert room.used_nbytes == 0


def test_a_framework_that_reads_the_body_does_not_answer_twice() -> None:
    async def framework(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()
        await PlainTextResponse("read")(scope, receive, send)

    said = ask(
        bounded(framework), "POST", "/", [HOST, JSON, ("transfer-encoding", "chunked")], [b"x" * 600] * 3
    )
    assert said.status == 413


def test_room_is_given_back_where_the_application_fails() -> None:
    room = Room(MOST)

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        ask(bounded(broken, room), "POST", "/", declared(10), [b"x" * 10])
    assert room.used_nbytes == 0
