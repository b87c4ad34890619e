"""Requests straight into an ASGI application, with whatever headers and pieces of a body a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

Header = tuple[str, str]
HOST: Header = ("host", "127.0.0.1:8080")
JSON: Header = ("content-type", "application/json")


@dataclass
class Said:
    """An answer, and how much of the body the application took before it gave one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    num_read: int = 0

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Iterable[Header] = (HOST,),
    pieces: Sequence[bytes] = (b"",),
    **scope: Any,
) -> Said:
    """Send one request and wait for the answer."""
    return asyncio.run(asked(app, method, path, headers, pieces, **scope))


async def asked(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Iterable[Header] = (HOST,),
    pieces: Sequence[bytes] = (b"",),
    **scope: Any,
) -> Said:
    said = Said()
    raw, _, query = path.partition("?")
    whole = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1", "replace"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "state": {},
        **scope,
    }

    async def receive() -> Message:
        if said.num_read < len(pieces):
            said.num_read += 1
            more = said.num_read < len(pieces)
            return {"type": "http.request", "body": pieces[said.num_read - 1], "more_body": more}
        if said.status:
            return {"type": "http.disconnect"}
        await asyncio.sleep(3600)  # connected, and silent
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            said.status = message["status"]
            said.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            said.body += message.get("body", b"")

    await asyncio.wait_for(app(whole, receive, send), 20)
    return said


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads everything and says how much it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
