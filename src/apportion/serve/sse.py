"""Server-sent events, as WHATWG's HTML standard writes them (section 9.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import orjson

Event: TypeAlias = tuple[str | None, Mapping[str, Any]]
"""An event's name, where the API has names, and its data."""

END_MARK = "[DONE]"
DONE = f"data: {END_MARK}\n\n".encode()


def written(events: Iterable[Event]) -> bytes:
    """Events on the wire."""
    return b"".join(
        (b"" if name is None else b"event: " + name.encode() + b"\n")
        + b"data: "
        + orjson.dumps(data)
        + b"\n\n"
        for name, data in events
    )


def comment(text: str) -> bytes:
    """What keeps a connection alive and clients ignore; `text` is one line."""
    return b": " + text.encode() + b"\n\n"
