"""One HTTP/1.1 request on a connection of its own. What arrives is stamped and kept, and read later: the
generator shares the machine with the server, and what it computes meanwhile it takes from it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

MAX_HEAD_NBYTES = 64 << 10
MAX_BODY_NBYTES = 64 << 20
BUFFER_NBYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        base: path before `/v1`, without a slash at its end.
    """

    host: str
    port: int
    base: str = ""
    tls: bool = False


@dataclass(slots=True)
class Reply:
    """What came back; times are those of `time.perf_counter`.

    Attributes:
        status: of HTTP; 0 where none came.
        pieces: the body as it arrived, each piece with its time.
        broken: why the reply is not whole; empty where it is.
    """

    sent_s: float = 0.0
    status: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended_s: float = 0.0
    broken: str = ""

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)


class Chunked:
    """A body in chunks (RFC 9112, 7.1); trailers are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """What whole chunks hold.

        Raises:
            ValueError: these are no chunks.
        """
        data = self._rest + data if self._rest else data
        found = []
        place = 0
        while not self.ended and (end := data.find(b"\r\n", place)) >= 0:
            size = int(data[place:end].partition(b";")[0], 16)
            if not 0 <= size <= MAX_BODY_NBYTES:
                raise ValueError("a chunk is too long")
            self.ended = size == 0
            if len(data) < end + size + 4:
                break
            found.append(data[end + 2 : end + 2 + size])
            place = end + size + 4
        self._rest = data[place:]
        return found[0] if len(found) == 1 else b"".join(found)


class Counted:
    """A body of a stated length; None: until the connection closes."""

    def __init__(self, nbytes: int | None) -> None:
        self._left = nbytes
        self.until_close = nbytes is None
        self.ended = nbytes == 0

    def feed(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
            self.ended = self._left <= 0
        return data


class Exchange(asyncio.BufferedProtocol):
    """Sends a request when the connection stands; `done` is set when the reply is whole or broken.

    With a buffer of its own: for a plain protocol asyncio makes one of 256 KiB for each word that comes.
    """

    def __init__(self, request: bytes, reply: Reply, done: asyncio.Future[None]) -> None:
        self._request = request
        self._reply = reply
        self._done = done
        self._head = b""
        self._body: Chunked | Counted | None = None
        self._nbytes = 0
        self._buffer = bytearray(BUFFER_NBYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        now = perf_counter()
        data = bytes(self._buffer[:nbytes])
        try:
            if self._body is None:
                data = self._read_head(data)
            if self._body is not None:
                self._read_body(now, data)
        except ValueError as error:
            self._end(f"no HTTP: {error}")

    def _read_head(self, data: bytes) -> bytes:
        """Take in the head; what follows it."""
        self._head += data
        head, mark, rest = self._head.partition(b"\r\n\r\n")
        if not mark:
            if len(self._head) > MAX_HEAD_NBYTES:
                raise ValueError("the head is too long")
            return b""
        line, *fields = head.decode("latin-1").split("\r\n")
        self._reply.status = int(line.split()[1]) if line.startswith("HTTP/1.") and " " in line else 0
        if not self._reply.status:
            raise ValueError("there is no status line")
        names = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        self._body = body_of(names)
        return rest

    def _read_body(self, now: float, data: bytes) -> None:
        assert self._body is not None
        piece = self._body.feed(data)
        if piece:
            self._reply.pieces.append((now, piece))
            self._nbytes += len(piece)
        if self._nbytes > MAX_BODY_NBYTES:
            raise ValueError("the body is too long")
        if self._body.ended:
            self._reply.ended_s = now
            self._end("")

    def connection_lost(self, error: Exception | None) -> None:
        whole = isinstance(self._body, Counted) and self._body.until_close and error is None
        self._end("" if whole else "the connection broke off")

    def _end(self, broken: str) -> None:
        if not self._done.done():
            self._reply.broken = broken
            self._reply.ended_s = self._reply.ended_s or perf_counter()
            self._done.set_result(None)
        self._transport.abort()


def body_of(fields: Mapping[str, str]) -> Chunked | Counted:
    """How the body that follows these fields is framed."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return Chunked()
    length = fields.get("content-length")
    return Counted(None if length is None else int(length))


async def exchange(address: Address, request: bytes, reply: Reply) -> None:
    """Send a request and take in what comes back, into `reply`: what came is kept when this is cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    reply.sent_s = perf_counter()
    context = ssl.create_default_context() if address.tls else None
    try:
        transport, _ = await loop.create_connection(
            lambda: Exchange(request, reply, done), address.host, address.port, ssl=context
        )
    except OSError as error:
        reply.broken = f"no connection: {error.strerror or type(error).__name__}"
        reply.ended_s = perf_counter()
        return
    try:
        await done
    finally:
        transport.abort()


def request_bytes(address: Address, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
    """A request as it goes over the wire.

    Args:
        path: from `/v1` on.
        key: sent as a bearer's token where there is one.
    """
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"{method} {address.base}{path} HTTP/1.1", f"Host: {host}:{address.port}", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
