"""Draining: a server that was told to stop takes nothing new and lets what runs come to its end."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from apportion.serve.access import Access
from apportion.serve.refusal import Refusal

STOPPING = Refusal(
    503, "stopping", "the server is stopping; try again later", {"Retry-After": "10", "Connection": "close"}
)
LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})


class Work:
    """Requests under way that a server which stops waits for."""

    def __init__(self) -> None:
        self.num_inside = 0


class Draining:
    """Refuses new work while the server drains, and counts the work that is under way. Who only looks, at
    the server's health or its state, is neither refused nor waited for.

    Args:
        is_draining: whether the server was told to stop.
        work: where they are counted.
    """

    def __init__(self, app: ASGIApp, is_draining: Callable[[], bool], work: Work) -> None:
        self._app = app
        self._is_draining = is_draining
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        looks = scope["type"] != "http" or scope["method"] in LOOKS
        if looks or scope.get("apportion.access") is Access.OPEN:
            await self._app(scope, receive, send)
        elif self._is_draining():
            await STOPPING(scope, receive, send)
        else:
            self._work.num_inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._work.num_inside -= 1
