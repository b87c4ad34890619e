"""Streams as tests look at them."""

from __future__ import annotations

import json
from typing import Any

import httpx

MARKS = ("id", "created", "created_at", "item_id", "model")


def events_of(response: httpx.Response) -> list[tuple[str | None, Any]]:
    """Names and data of the events; `[DONE]` as it is."""
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        name = next((line.removeprefix("event: ") for line in lines if line.startswith("event: ")), None)
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if data:
            found.append((name, data[0] if data[0] == "[DONE]" else json.loads(data[0])))
    return found


def shape(value: Any, key: str = "") -> Any:
    """A value without what differs from run to run: names and times become their types."""
    if isinstance(value, dict):
        return {name: shape(item, name) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if key in MARKS or (key == "call_id" and value):
        return f"<{type(value).__name__}>"
    return round(value, 3) if isinstance(value, float) else value
