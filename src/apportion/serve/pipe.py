"""A short way for the pieces of a stream: from the event loop's turn that brings them straight to the socket.

A piece that goes the way of every ASGI message passes a task that has to be woken, six callers and h11. For
the few bytes of a token that is half of what they cost, and it is paid while the next step computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import Scope

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

PIPE = "apportion.pipe"


class Pipe:
    """Into an answer that has begun, whose length its head does not tell.

    To h11 a piece of a body is a piece like any other: what passes it by changes nothing that it knows.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def is_free(self) -> bool:
        """Whether a piece would neither wait nor come too early or too late."""
        cycle = self._cycle
        return (
            cycle.response_started
            and not cycle.response_complete
            and not cycle.disconnected
            and not cycle.flow.write_paused
            and not cycle.transport.is_closing()
        )

    def write(self, data: bytes) -> None:
        """Send some bytes, as a chunk (RFC 9112, section 7.1)."""
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


def offer_pipe(scope: Scope, cycle: RequestResponseCycle) -> None:
    """Let who answers a request find its pipe. Only HTTP 1.1 has chunks."""
    if scope["http_version"] == "1.1":
        scope.setdefault("extensions", {})[PIPE] = Pipe(cycle)


def pipe_of(scope: Scope) -> Pipe | None:
    """None where there is none: whatever is sent goes the long way."""
    found: Pipe | None = scope.get("extensions", {}).get(PIPE)
    return found
