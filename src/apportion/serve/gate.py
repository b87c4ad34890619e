"""The gate: whether a caller may use a route is settled before a byte of the body is read.

It looks a request up in the table of all routes, in the order in which the application would. Whatever the
table does not hold, or holds without a class, is not passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from apportion.serve.access import MARK, NOBODY, Access, Caller, Keys
from apportion.serve.refusal import Refusal

UNKNOWN = Refusal(404, "unknown_route", "there is no such route")
# One answer for a missing, a malformed and a wrong key: none of them is to be told from the others.
NO_KEY = Refusal(401, "invalid_api_key", "a valid key is needed", {"WWW-Authenticate": "Bearer"})
NOT_ADMIN = Refusal(403, "not_allowed", "this needs the key of the admin")


@dataclass(frozen=True, slots=True)
class Entry:
    """A route as the gate sees it.

    Attributes:
        template: its path with names in place of what varies.
        methods: empty where it takes all of them.
        access: None where none was declared.
    """

    template: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    access: Access | None


def entries(routes: Sequence[BaseRoute]) -> Iterator[Entry]:
    """What the gate knows of routes, in the order in which they are tried; other kinds are not passed on."""
    for route in routes:
        if isinstance(route, Route):
            yield Entry(
                route.path,
                route.path_regex,
                frozenset(route.methods or ()),
                getattr(route.endpoint, MARK, None),
            )
        elif isinstance(route, Mount):
            yield Entry(route.path, route.path_regex, frozenset(), getattr(route.app, MARK, None))


@dataclass(frozen=True, slots=True)
class Found:
    """What a request asks for: an entry, or the methods that its path would have taken."""

    entry: Entry | None
    methods: frozenset[str] = frozenset()


class Table:
    """Which entry a method and a path belong to."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.entries = list(entries(routes))

    def find(self, method: str, path: str) -> Found:
        fitting = [entry for entry in self.entries if entry.pattern.match(path)]
        for entry in fitting:
            if not entry.methods or method in entry.methods:
                return Found(entry)
        reachable = [entry.methods for entry in fitting if entry.access in (Access.OPEN, Access.USER)]
        return Found(None, frozenset().union(*reachable))


class Gate:
    """Lets through who may pass, and says to the application who it is.

    The scope of what passes has `apportion.caller` and `apportion.route`, the template.

    Args:
        keys: asked anew for each request, so that they can be replaced.
        routes: asked once, when the first request comes.
    """

    def __init__(
        self, app: ASGIApp, keys: Callable[[], Keys], routes: Callable[[], Sequence[BaseRoute]]
    ) -> None:
        self._app = app
        self._keys = keys
        self._routes = routes
        self._table: Table | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._judged(scope)(scope, receive, send)

    def _judged(self, scope: Scope) -> ASGIApp:
        """The application, or what is said in its place."""
        if self._table is None:
            self._table = Table(self._routes())
        found = self._table.find(scope["method"], scope["path"])
        if found.entry is None:
            return unfit(found)
        keys = self._keys()
        verdict = judge(found.entry.access, keys, offered(Headers(scope=scope)))
        if isinstance(verdict, Refusal):
            return verdict
        scope["apportion.route"] = found.entry.template
        scope["apportion.access"] = found.entry.access
        scope["apportion.caller"] = verdict
        return self._app


def unfit(found: Found) -> Refusal:
    """For a path that nobody serves, or not with this method."""
    if not found.methods:
        return UNKNOWN
    allowed = ", ".join(sorted(found.methods))
    return Refusal(405, "method_not_allowed", f"this route takes {allowed}", {"Allow": allowed})


def judge(access: Access | None, keys: Keys, tried: Sequence[str]) -> Caller | Refusal:
    """Who may pass as whom."""
    if access is None or (access is Access.ADMIN and not keys.has_admin):
        return UNKNOWN
    known = [caller for caller in (keys.caller(key) for key in tried or [""]) if caller is not None]
    caller = known[0] if known else None
    if access is Access.OPEN:
        return caller or NOBODY
    if caller is None or (access is Access.ADMIN and not caller.is_admin and caller is NOBODY):
        return NO_KEY
    return caller if access is Access.USER or caller.is_admin else NOT_ADMIN


def offered(headers: Headers) -> list[str]:
    """The keys that came with a request: `Authorization: Bearer KEY` and `x-api-key: KEY`. A header that
    came twice counts for nothing.
    """
    found = []
    match headers.getlist("authorization"):
        case [one]:
            scheme, _, key = one.strip().partition(" ")
            if scheme.lower() == "bearer":
                found.append(key.strip())
    match headers.getlist("x-api-key"):
        case [one]:
            found.append(one.strip())
    return [key for key in found if key]
