"""Refusals: what the guards answer in place of the application, as ASGI applications of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from apportion.serve.errors import error_body, json_response


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that says no, in the shape that clients of the path's API know.

    Attributes:
        message: for a person; it never repeats what was sent.
        code: for a program.
        headers: besides those of every answer.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = error_body(self.status, self.message, self.code, str(scope.get("path", "")))
        await json_response(body, self.status, dict(self.headers))(scope, receive, send)
