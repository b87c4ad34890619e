"""What verbs print: one JSON object, or lines for a person."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from apportion.engine import Completion


def print_object(value: Mapping[str, Any]) -> None:
    """Exactly one JSON object on stdout. NumPy numbers and paths become plain values."""
    click.echo(json.dumps(value, ensure_ascii=False, default=plain))


def plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


def note(text: str) -> None:
    """A line for the person at the terminal: stderr, so that stdout stays the result."""
    click.echo(text, err=True)


def visible(text: str, *, err: bool = False) -> str:
    """Model output for stdout or stderr; to a terminal, no control character but line ends and tabs."""
    if not (sys.stderr if err else sys.stdout).isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def closing_line(done: Completion) -> str:
    """Tokens and rates of a finished answer, on one line."""
    from apportion.core.resident import peak_rss_bytes
    from apportion.core.units import format_bytes

    timings = done.timings
    prompt = f"prompt {done.prompt_tokens} tokens"
    if done.cached_tokens:
        prompt += f" ({done.cached_tokens} cached)"
    return (
        f"{prompt}, {timings.prefill_tok_s:.1f} tok/s | answer {done.output_tokens} tokens, "
        f"{timings.decode_tok_s:.1f} tok/s | {done.finish_reason} | peak {format_bytes(peak_rss_bytes())}"
    )
