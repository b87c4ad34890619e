"""One record for each request: its id, which client and log share, and what became of it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apportion.serve.refusal import Refusal

SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
GONE = 499  # as nginx logs a client that left before its answer ended
RECORD = "apportion.record"

logger = logging.getLogger("apportion.requests")


@dataclass(slots=True)
class Record:
    """What the log says about a request. Routes add what they know.

    Attributes:
        first_s: seconds until the answer's first bytes.
        model: one of those that the server offers, never what a client wrote.
    """

    request_id: str
    began_s: float = field(default_factory=monotonic)
    status: int = 0
    first_s: float | None = None
    is_complete: bool = False
    is_gone: bool = False
    model: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


_current: ContextVar[Record | None] = ContextVar("apportion_record", default=None)


def current_record() -> Record | None:
    """The record of the request that the running task answers."""
    return _current.get()


def new_id() -> str:
    return "req_" + secrets.token_hex(12)


def id_of(headers: Headers) -> str:
    """The client's own name for its request, if it is one that can stand in a log, or a new one."""
    names = headers.getlist("x-request-id")
    return names[0] if len(names) == 1 and SANE.fullmatch(names[0]) else new_id()


class RequestLog:
    """Gives each request an id, answers what nobody caught, and logs one line when a request is over.

    Args:
        answered: counts requests that are over, by the route's template and the status.
    """

    def __init__(self, app: ASGIApp, answered: Counter[tuple[str, int]] | None = None) -> None:
        self._app = app
        self._answered = Counter() if answered is None else answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[RECORD] = Record(id_of(Headers(scope=scope)))
        _current.set(record)

        async def listen() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not record.is_complete:
                record.is_gone = True
            return message

        async def tell(message: Message) -> None:
            note(record, message)
            await send(message)

        try:
            await self._app(scope, listen, tell)
        except ClientDisconnect:
            record.is_gone = True
        except asyncio.CancelledError:
            record.is_gone = True
            raise
        except Exception as error:
            await self._answer(error, record, scope, listen, tell)
        finally:
            fields = fields_of(record, scope)
            self._answered[fields.get("route", ""), fields["status"]] += 1
            logger.log(level_of(record), "request", extra={"fields": fields})

    async def _answer(
        self, error: Exception, record: Record, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Nothing of an unexpected error goes to the client but the id under which the log has it."""
        fields = {"request_id": record.request_id, "error": type(error).__name__}
        logger.error("a request failed", extra={"fields": fields})
        logger.debug("where it failed", exc_info=error)
        if record.status:
            raise error  # the answer has begun: all that is left is to break it off
        message = f"the server failed to answer request {record.request_id}"
        await Refusal(500, "internal_error", message)(scope, receive, send)


def note(record: Record, message: Message) -> None:
    """Take up what an answer's message tells."""
    if message["type"] == "http.response.start":
        record.status = message["status"]
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = record.request_id
    elif message["type"] == "http.response.body":
        if record.first_s is None and message.get("body"):
            record.first_s = monotonic() - record.began_s
        record.is_complete = not message.get("more_body", False)


def level_of(record: Record) -> int:
    return logging.ERROR if record.status >= 500 and record.status != 503 else logging.INFO


def fields_of(record: Record, scope: Scope) -> dict[str, Any]:
    """What stands in the log: no path but the route's template, no key, and nothing of any body."""
    caller = scope.get("apportion.caller")
    gone = record.is_gone and not record.is_complete
    found: dict[str, Any] = {
        "request_id": record.request_id,
        "method": scope["method"] if scope["method"].isalpha() else "?",
        "route": scope.get("apportion.route"),
        "status": GONE if gone else record.status,
        "seconds": round(monotonic() - record.began_s, 4),
        "first_s": None if record.first_s is None else round(record.first_s, 4),
        "caller": getattr(caller, "name", "") or None,
        "client": (scope.get("client") or (None,))[0],
        "model": record.model,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "output_tokens": record.output_tokens,
    }
    return {name: value for name, value in found.items() if value is not None}
