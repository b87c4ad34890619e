"""Errors as HTTP answers, in the shape that clients of each API know."""

from __future__ import annotations

import json
import logging
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from apportion.core.errors import (
    ApportionError,
    ContextOverflow,
    DoesNotFit,
    InUse,
    LimitExceeded,
    NotFound,
    Overloaded,
    Refused,
    TemplateError,
    Unsupported,
    UsageError,
)
from apportion.serve.bodies import faults
from apportion.serve.sse import Event

logger = logging.getLogger("apportion.serve")

STATUS: tuple[tuple[type[ApportionError], int], ...] = (
    (UsageError, 400),
    (ContextOverflow, 400),
    (LimitExceeded, 400),
    (TemplateError, 400),
    (Unsupported, 400),
    (DoesNotFit, 400),
    (NotFound, 404),
    (InUse, 409),
    (Refused, 403),
    (Overloaded, 429),
)
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    431: "request_too_large",
    503: "overloaded_error",
}
SERVER_ERROR = "server_error"
CODES = {"not_found": "model_not_found", "context_overflow": "context_length_exceeded"}
HTTP_CODES = {404: "unknown_route", 405: "method_not_allowed", 415: "unsupported_media_type"}
MESSAGES = "/v1/messages"
OWN = "/v1/apportion/"


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return 500


def error_data(error: Exception, path: str, param: str | None = None) -> dict[str, Any]:
    """The body that says what went wrong, as the API of this path writes it. What is not the client's
    business, or might name files, is told to the log alone.
    """
    status = status_of(error)
    if isinstance(error, ApportionError) and status < 500:
        code = error.code if path.startswith(OWN) else CODES.get(error.code, error.code)
        return error_body(status, str(error), code, path, param or error.param, error.to_dict())
    return error_body(status, "the server failed to answer this request", "internal_error", path)


def error_body(
    status: int,
    message: str,
    code: str,
    path: str,
    param: str | None = None,
    details: dict[str, object] | None = None,
) -> dict[str, Any]:
    """OpenAI's error object, or Anthropic's."""
    kind = KINDS.get(status, SERVER_ERROR)
    if path.startswith(MESSAGES):
        kind = "api_error" if kind == SERVER_ERROR else kind
        return {"type": "error", "error": {"type": kind, "message": message}}
    body: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": body if details is None else {**body, "details": details}}


def error_response(error: Exception, path: str, param: str | None = None) -> Response:
    """An error as an answer in one piece."""
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Overloaded) else None
    return json_response(error_data(error, path, param), status_of(error), headers)


def error_event(error: Exception, path: str) -> Event:
    """An error after a stream has begun."""
    return ("error" if path.startswith(MESSAGES) else None), error_data(error, path)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    try:
        data = orjson.dumps(body)
    except TypeError:  # a whole number of more than 64 bits, which a client sent and an error repeats
        data = json.dumps(body).encode()
    return Response(data, status, headers, "application/json")


# --- for FastAPI ---


async def on_apportion_error(request: Request, error: Exception) -> Response:
    log_failure(error)
    return error_response(error, request.url.path)


async def on_invalid(request: Request, error: Exception) -> Response:
    """A body or parameter of the wrong shape: which, and what is wrong with it, but not what it was."""
    assert isinstance(error, RequestValidationError)
    message, param = faults(error)
    return json_response(error_body(400, message, "invalid_value", request.url.path, param), 400)


async def on_http_error(request: Request, error: Exception) -> Response:
    """There is no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, "refused")
    body = error_body(error.status_code, str(error.detail), code, request.url.path)
    return json_response(body, error.status_code, dict(error.headers or {}))


async def on_unexpected(request: Request, error: Exception) -> Response:
    log_failure(error)
    return error_response(error, request.url.path)


def log_failure(error: Exception) -> None:
    """Say in the log what a client is not told."""
    if status_of(error) >= 500:
        logger.error("a request failed: %s", type(error).__name__)
        logger.debug("where it failed", exc_info=error)
