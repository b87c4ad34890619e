"""What routes say of their answers in `/openapi.json`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from apportion.serve.schemas.base import Told
from apportion.serve.schemas.errors import Failure

# Errors that every route can give; the text stands in the documentation.
STATUSES = {
    400: "the request is malformed, or asks for what cannot be had",
    401: "the request has no valid key",
    403: "the key or the origin may not ask this",
    404: "there is no such route or model",
    405: "the route has no such method",
    408: "the request took too long to arrive",
    413: "the body is too large",
    415: "the body is no plain JSON",
    429: "too many requests wait; `Retry-After` says when to come again",
    500: "the server failed",
    503: "the server is being stopped, or a model cannot be loaded",
}


def told(
    answer: type[Told],
    event: type[Told] | None = None,
    failure: type[BaseModel] = Failure,
    end_mark: str | None = None,
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route.

    Args:
        event: what the events of a stream hold, where the answer can be one.
        failure: how errors are written.
        end_mark: data of a stream's last event, where it is none of them.
    """
    fine: dict[str, Any] = {"model": answer, "description": answer.__doc__ or ""}
    if event is not None:
        fine["content"] = {"text/event-stream": {"schema": event_schema(event.__name__, end_mark)}}
        fine["description"] += f" In a stream, the data of each event is a `{event.__name__}`"
        fine["description"] += f", and of the last one `{end_mark}`." if end_mark else "."
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": failure, "description": text} for status, text in STATUSES.items()
    }
    return {200: fine, **failures}


def event_schema(model: str, end_mark: str | None = None) -> dict[str, Any]:
    """The schema of an event of a stream, by the name of what its data is."""
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/components/schemas/{model}"},
    }
    if end_mark is not None:
        data = {"anyOf": [{"const": end_mark}, data]}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": data}, "required": ["data"]}
