"""What verbs print: one JSON object, or lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click


def print_object(value: Mapping[str, Any]) -> None:
    """Exactly one JSON object on stdout. NumPy numbers and paths become plain values."""
    click.echo(json.dumps(value, ensure_ascii=False, default=plain))


def plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


def note(text: str) -> None:
    """A line for the person at the terminal: stderr, so that stdout stays the result."""
    click.echo(text, err=True)
