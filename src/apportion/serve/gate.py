"""Who passes: before a request's body is read, its route says who may ask, and its key who asks."""

from __future__ import annotations

from typing import Any

from starlette.routing import Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from apportion.serve.access import MARK, Access, Keys
from apportion.serve.config import ServeConfig
from apportion.serve.errors import error_body, json_response

OPENAPI = "/openapi.json"


class Gate:
    """ASGI middleware: lets through what its route's class allows."""

    def __init__(self, app: ASGIApp, config: ServeConfig, router: Router) -> None:
        self._app = app
        self._router = router
        self._keys = Keys(config.api_keys, config.admin_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, message, code = refusal
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        response = json_response(error_body(status, message, code, scope["path"]), status, headers)
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        access = access_of(self._router, scope)
        if access is None or access is Access.OPEN:  # an unknown route is for the router to say
            return None
        caller = self._keys.caller(key_of(scope))
        if access is Access.ADMIN and not self._keys.has_admin:
            return 404, "Not Found", "unknown_route"
        if caller is None:
            return 401, "the request has no valid key", "invalid_api_key"
        if access is Access.ADMIN and not caller.is_admin:
            return 403, "this route is not for this key", "refused"
        scope["apportion.caller"] = caller
        return None


def access_of(router: Router, scope: Scope) -> Access | None:
    """The class of the route that a request takes; the admin's where a route declares none."""
    for route in router.routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            if getattr(route, "path", "") == OPENAPI:
                return Access.USER
            endpoint: Any = getattr(route, "endpoint", None)
            return getattr(endpoint, MARK, Access.ADMIN)
    return None


def key_of(scope: Scope) -> str | None:
    """The key that a request carries."""
    headers = dict(scope["headers"])
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return str(bearer[7:].strip().decode("latin-1"))
    key = headers.get(b"x-api-key")
    return None if key is None else str(key.decode("latin-1"))
