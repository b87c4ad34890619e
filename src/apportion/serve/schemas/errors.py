"""Errors, as OpenAI and as Anthropic write them."""

from __future__ import annotations

from typing import Any, Literal

from apportion.serve.schemas.base import Told


class Fault(Told):
    """What went wrong.

    Attributes:
        param: the field that is to blame.
        details: the error's parts: what happened, why, with which numbers, and what to do.
    """

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    details: dict[str, Any] | None = None


class Failure(Told):
    """An error of every route but Anthropic's."""

    error: Fault


class MessagesFault(Told):
    """What went wrong."""

    type: str
    message: str


class MessagesFailure(Told):
    """An error of Anthropic's routes."""

    type: Literal["error"]
    error: MessagesFault
