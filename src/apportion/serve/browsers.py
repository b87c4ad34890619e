"""Web pages: a page from elsewhere that runs in a browser on this machine is not to use the server.

A page can make its own name point to this machine (DNS rebinding), so the Host header must be a name that the
server goes by. A page can send requests across origins without reading the answers, so requests that change
something must come from the server's own pages, from no page at all, or from an origin that was allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from apportion.serve.access import is_loopback
from apportion.serve.refusal import Refusal

ANY = "*"
HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
BAD_HOST = Refusal(
    403, "host_not_allowed", "the server does not go by the name in the Host header; see --allowed-host"
)
CROSS_ORIGIN = Refusal(
    403, "cross_origin", "a page of another origin may not ask for this; see --cors-origin"
)
METHODS = ("GET", "POST", "DELETE")
HEADERS = (
    "authorization",
    "content-type",
    "x-api-key",
    "x-request-id",
    "anthropic-version",
    "anthropic-beta",
)


class HostNames:
    """Names that the server goes by: those of this machine alone, the address that it listens at, and those
    that were allowed. Where it listens for other machines, any IP address will do: only names can be
    rebound.
    """

    def __init__(self, bound: str, allowed: Iterable[str] = ()) -> None:
        self._names = {
            "localhost",
            bound.strip("[]").lower(),
            *(name.strip("[]").lower() for name in allowed),
        }
        self._is_local = is_loopback(bound)

    def allows(self, host: str) -> bool:
        """Whether a Host header, with or without a port, is one of them."""
        name = without_port(host)
        if name is None:
            return False
        if ANY in self._names or name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local


def without_port(host: str) -> str | None:
    """`name`, `name:port`, `[v6]` or `[v6]:port` without the port; None for anything else."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        fits = bracket and ":" in name and (not port or (port.startswith(":") and is_port(port[1:])))
    else:
        name, colon, port = host.partition(":")
        fits = name and (is_port(port) if colon else True)
    return name.lower() if fits else None


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


class Browsers:
    """Refuses what pages of other origins send, and names that the server does not go by."""

    def __init__(self, app: ASGIApp, names: Callable[[], HostNames], origins: Sequence[str] = ()) -> None:
        self._app = with_cors(app, origins) if origins else app
        self._names = names
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            hosts = headers.getlist("host")
            if len(hosts) != 1 or not self._names().allows(hosts[0]):
                app = BAD_HOST
            elif scope.get("method") not in HARMLESS and not self._is_ours(headers, hosts[0]):
                app = CROSS_ORIGIN
        if scope["type"] == "websocket" and app is not self._app:
            await send({"type": "websocket.close", "code": 1008})
        else:
            await app(scope, receive, send)

    def _is_ours(self, headers: Headers, host: str) -> bool:
        """Whether a request comes from no page, one of ours, or one that is allowed. Browsers let no page
        set either of these headers.
        """
        origin = headers.get("origin")
        if origin is not None and (ANY in self._origins or origin.lower() in self._origins):
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        return origin is None or origin.lower().partition("://")[2] == host.lower()


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Answers that pages of these origins may read. Pages send keys, never browsers by themselves."""
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=METHODS,
        allow_headers=HEADERS,
        expose_headers=("x-request-id", "retry-after"),
        max_age=600,
    )
