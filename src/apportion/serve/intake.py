"""Bodies: how large one may be, how much of them there may be at once, and what they may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apportion.core.units import format_bytes
from apportion.serve.refusal import Refusal

TAKERS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ENCODED = Refusal(
    415, "unsupported_encoding", "bodies must not be compressed", {"Accept-Encoding": "identity"}
)
NOT_JSON = Refusal(415, "unsupported_media_type", "bodies must be JSON: send Content-Type: application/json")
BAD_LENGTH = Refusal(400, "bad_length", "the Content-Length is no number")
FULL = Refusal(503, "overloaded", "too much is being sent to the server at once", {"Retry-After": "1"})


@dataclass(slots=True)
class Room:
    """Bytes of bodies that are in memory now, and how many may be."""

    limit_nbytes: int
    used_nbytes: int = 0

    def reserve(self, nbytes: int) -> bool:
        if self.used_nbytes + nbytes > self.limit_nbytes:
            return False
        self.used_nbytes += nbytes
        return True

    def release(self, nbytes: int) -> None:
        self.used_nbytes -= nbytes
        assert self.used_nbytes >= 0


class Bodies:
    """Passes on bodies of JSON within the limits. One that says that it is larger is refused before it is
    read; one that turns out larger, when it does.

    Args:
        body_nbytes: of one body; asked anew for each.
        room: for all that are there at once. A body is counted until its answer begins.
    """

    def __init__(self, app: ASGIApp, body_nbytes: Callable[[], int], room: Room) -> None:
        self._app = app
        self._body_nbytes = body_nbytes
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        body = Body(self, scope, receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except ClientDisconnect:
            if not body.is_refused:
                raise
        finally:
            body.release()

    @property
    def too_large(self) -> Refusal:
        most = format_bytes(self._body_nbytes())
        return Refusal(413, "body_too_large", f"a body may have {most} at most")

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        """What speaks against the body by the headers alone."""
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return BAD_LENGTH
        if int(length[:20]) > self._body_nbytes():
            return self.too_large
        if headers.get("content-encoding", "identity").lower() != "identity":
            return ENCODED
        has_body = int(length) > 0 or "transfer-encoding" in headers
        if has_body and method in TAKERS and not is_json(headers.get("content-type", "")):
            return NOT_JSON
        return None

    def take(self, size: int, more: int) -> Refusal | None:
        """Count `more` bytes of a body that has `size` with them."""
        if size > self._body_nbytes():
            return self.too_large
        return None if self._room.reserve(more) else FULL

    def give_back(self, nbytes: int) -> None:
        self._room.release(nbytes)


class Body:
    """One body on its way. After a refusal the application is told that the client is gone, and nothing that
    it sends goes out.
    """

    def __init__(self, bodies: Bodies, scope: Scope, receive: Receive, send: Send) -> None:
        self._bodies = bodies
        self._scope = scope
        self._receive = receive
        self._send = send
        self._size = self._held = 0
        self._has_begun = False
        self.is_refused = False

    async def receive(self) -> Message:
        if self.is_refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("body"):
            return message
        more = len(message["body"])
        self._size += more
        refusal = self._bodies.take(self._size, more)
        if refusal is None:
            self._held += more
            return message
        self.is_refused = True
        if not self._has_begun:
            await refusal(self._scope, self._receive, self._send)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.is_refused:
            self._has_begun = True
            self.release()
            await self._send(message)

    def release(self) -> None:
        self._bodies.give_back(self._held)
        self._held = 0


def is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
