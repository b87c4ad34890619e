"""How bodies are read: as strict JSON, bounded in depth, whatever a client sends.

router = APIRouter(route_class=BodyRoute)
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from apportion.core.errors import BadFile, UsageError
from apportion.formats.bounded_json import parse_json_bounded

MAX_SHOWN = 3  # faults of one body that are told


class BodyRoute(APIRoute):
    """A route whose body is JSON and nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def read_and_answer(request: Request) -> Response:
            if request.method in ("POST", "PUT", "PATCH"):
                request = BodyRequest(request.scope, request.receive)
                await request.json()
            return await answer(request)

        return read_and_answer


class BodyRequest(Request):
    """A request whose body is strict JSON."""

    async def json(self) -> Any:
        """The body's value; None where there is no body.

        Raises:
            UsageError: it is no JSON: twice the same key, NaN, no UTF-8 and the like are none.
            LimitExceeded: it is nested too deep.
            HTTPException: 415, it is said to be something else.
        """
        if not hasattr(self, "_json"):
            data = await self.body()
            if data:
                check_type(self)
            self._json = parsed(data) if data.strip() else None
        return self._json


def check_type(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise HTTPException(415, "compressed bodies are not read")
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise HTTPException(415, "the body is read as JSON alone: send Content-Type: application/json")
    name, _, charset = parameters.strip().partition("=")
    if name.lower() == "charset" and charset.strip('" ').lower() not in ("utf-8", "utf8"):
        raise HTTPException(415, "the body is read as UTF-8 alone")


def parsed(data: bytes) -> Any:
    try:
        return parse_json_bounded(data, "the body")
    except BadFile as error:
        raise UsageError(error.what, error.why, error.hint, **error.numbers) from None


def faults(error: RequestValidationError) -> tuple[str, str | None]:
    """What is wrong with a body or parameter, without what it was, and the field that is to blame."""
    told = []
    places = []
    for fault in error.errors()[:MAX_SHOWN]:
        place = place_of(fault["loc"])
        told.append(f"{place}: {fault['msg']}" if place else str(fault["msg"]))
        places.append(place)
    return "; ".join(dict.fromkeys(told)), places[0] or None


def place_of(loc: tuple[Any, ...]) -> str:
    """`messages.0.content`: the names that a client wrote, without those that the check has of its own."""
    parts = [part for part in loc[1:] if isinstance(part, int) or (part.isidentifier() and not is_kind(part))]
    return ".".join(str(part) for part in parts)[:128]


def is_kind(name: str) -> bool:
    """Whether a name is that of a type, as pydantic names the members of unions."""
    return name in ("str", "int", "float", "bool", "dict", "list") or name[:1].isupper()
