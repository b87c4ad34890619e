"""HTTP/1.1 on a socket: uvicorn's protocol over h11, with the bounds and deadlines that it lacks.

A request has to arrive, head and body, within one deadline, however steadily its bytes trickle in. An answer
has to be read: what a client leaves in the socket's buffer for too long ends the connection, and with it the
request. Heads are bounded also where they arrive in one piece.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from apportion.serve.crowd import Crowd
from apportion.serve.errors import error_body
from apportion.serve.limits import Limits
from apportion.serve.pipe import offer_pipe

SEND_BUFFER_NBYTES = 64 * 1024  # of the socket; what lies beyond it waits in the application
IGNORED_NBYTES = 1024 * 1024  # beyond the largest body, of one that was refused
LINGER_S = 2.0  # for a client to read a refusal before the connection goes
VERSIONS = (b"1.0", b"1.1")
TELL = {
    400: ("bad_request", "this is not an HTTP request that the server understands"),
    408: ("request_timeout", "the request did not arrive in time"),
    431: ("head_too_large", "the request has too many or too large headers"),
    501: ("not_implemented", "the body is sent in a way that the server does not read"),
    505: ("bad_version", "the server speaks HTTP 1.1"),
}
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"

logger = logging.getLogger("apportion.serve")


class BoundedConnection(h11.Connection):
    """The state of a connection.

    Attributes:
        status: that the last error of the client is to be answered with.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(h11.SERVER, limits.header_nbytes)
        self._limits = limits
        self.status = 400

    def next_event(self) -> Any:
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.status = error.error_status_hint
            raise
        if isinstance(event, h11.Request):
            self._check(event)
        return event

    def _check(self, request: h11.Request) -> None:
        """h11 bounds only heads that arrive in several pieces."""
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self._limits.header_nbytes or len(request.headers) > self._limits.num_headers:
            self.status = 431
            raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
        if request.http_version not in VERSIONS:
            self.status = 505
            raise h11.RemoteProtocolError("another version of HTTP", error_status_hint=505)


class Deadline:
    """Something that is to be done unless it is called off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        self._loop = loop
        self._act = act
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float) -> None:
        """From now on, unless it runs already."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._due)

    def call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._act()


class GuardedProtocol(H11Protocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._crowd = crowd
        self._limits = crowd.limits
        self.conn: BoundedConnection = BoundedConnection(crowd.limits)
        self.timeout_keep_alive = crowd.limits.idle_s  # type: ignore[assignment]  # any number will do
        self._arrival = Deadline(self.loop, self._is_late)
        self._reading = Deadline(self.loop, self._is_unread)
        self._linger = Deadline(self.loop, self._end)
        self._address: str | None = None  # None for who was turned away
        self._is_over = False  # nothing that comes is looked at
        self._num_ignored = 0
        self._answer = self.app
        self.app = self._answer_with_pipe

    async def _answer_with_pipe(self, scope: Any, receive: Any, send: Any) -> None:
        offer_pipe(scope, self.cycle)  # the cycle is this request's: no other begins before it is answered
        await self._answer(scope, receive, send)

    # --- coming and going ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        address = str((transport.get_extra_info("peername") or ("unknown",))[0])
        if not self._crowd.enter(address):
            self.transport = transport
            self._is_over = True
            transport.write(FULL)
            if self._crowd.begin_parting():
                self._hang_up()
            else:
                transport.abort()
            return
        self._address = address
        bound_buffers(transport)
        super().connection_made(transport)
        self._arrival.begin(self._limits.receive_s)

    def connection_lost(self, exc: Exception | None) -> None:
        for deadline in (self._arrival, self._reading, self._linger):
            deadline.call_off()
        if self._address is None:
            self._crowd.end_parting()
            return
        self._crowd.leave(self._address)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._is_over:
            self.transport.close()
        else:
            super().shutdown()

    # --- requests ---

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._ignore(len(data))
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """A deadline runs from when a request could have begun until all of it is there."""
        theirs, is_idle = self.conn.their_state, self.timeout_keep_alive_task is not None
        if self._is_over or self.transport.is_closing():
            self._arrival.call_off()
        elif theirs is h11.SEND_BODY or (theirs is h11.IDLE and not is_idle):
            self._arrival.begin(self._limits.receive_s)
        else:
            self._arrival.call_off()
            self._num_ignored = 0

    def _ignore(self, nbytes: int) -> None:
        """The rest of a body that was refused may come, so that the client reads why; not for ever."""
        if self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY:
            self._num_ignored += nbytes
            if self._num_ignored > self._limits.body_nbytes + IGNORED_NBYTES:
                self._end()

    def _is_late(self) -> None:
        self._crowd.counts.late += 1
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.close()  # it said nothing at all
        else:
            self._refuse(408)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for whatever is not HTTP."""
        self._crowd.counts.malformed += 1
        self._refuse(self.conn.status)

    def _refuse(self, status: int) -> None:
        """Answer what the application does not see, or will see no more of, and end the connection."""
        self._is_over = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._say(status if status in TELL else 400)
            self._hang_up()
        else:  # an answer is on its way, and cannot be taken back
            self._end()

    def _say(self, status: int) -> None:
        code, message = TELL[status]
        path = "" if self.scope is None else self.scope["path"]
        body = orjson.dumps(error_body(status, message, code, path))
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        begin = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
        for event in (begin, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _hang_up(self) -> None:
        """Close, but not under the eyes of a client that reads: with bytes unread, closing resets."""
        self._arrival.call_off()
        try:
            self.transport.write_eof()
        except OSError:  # it has gone already
            self._end()
        else:
            self._linger.begin(LINGER_S)

    def _end(self) -> None:
        self._is_over = True
        self.transport.abort()

    # --- answers ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.begin(self._limits.write_s)

    def resume_writing(self) -> None:
        self._reading.call_off()
        super().resume_writing()

    def _is_unread(self) -> None:
        self._crowd.counts.cut_off += 1
        logger.warning("an answer was not read in time", extra={"fields": {"write_s": self._limits.write_s}})
        self._end()


def bound_buffers(transport: asyncio.Transport) -> None:
    """Let little of an answer wait in the socket and nothing behind it, so that a client that does not read
    is noticed and costs little.
    """
    transport.set_write_buffer_limits(high=0)
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_NBYTES)
    if sys.platform == "linux":  # a machine that is gone is noticed, too
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
