"""Answers cut into pieces, and what is read from them in a form that is easy to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from apportion.text.answer_parts import (
    AnswerParts,
    CallArguments,
    CallBegins,
    Mismatch,
    Part,
    Reasoning,
    Text,
)
from apportion.text.reasoning import ReasoningMarks
from apportion.text.tool_calls import TOOL_FORMATS
from apportion.text.tools import Tool

WEATHER = Tool(
    "weather",
    "The weather of a place.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": ["string", "null"]},
            "where": {"type": "object", "properties": {"x": {"type": "number"}}},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = Tool("time")
TOOLS = (WEATHER, TIME)


def reader(
    name: str | None,
    tools: Sequence[Tool] = TOOLS,
    reasoning: ReasoningMarks | None = None,
    is_open: bool = False,
) -> AnswerParts:
    return AnswerParts(TOOL_FORMATS.get(name) if name else None, tools, reasoning, is_open)


def parts_of(parts: AnswerParts, pieces: Iterable[str]) -> list[Part]:
    found = [part for piece in pieces for part in parts.feed(piece)]
    return found + parts.finish()


def told(parts: Iterable[Part]) -> list[Any]:
    """Neighbours joined: `text`, `thought`, (name, arguments) and ("?", why)."""
    found: list[Any] = []
    for part in parts:
        last = found[-1] if found else None
        match part:
            case Text(text):
                found[-1:] = [last + text] if isinstance(last, str) else [*found[-1:], text]
            case Reasoning(text):
                whole = isinstance(last, list)
                found[-1:] = [[last[0] + text]] if whole else [*found[-1:], [text]]
            case CallBegins(_, _, name):
                found.append((name, ""))
            case CallArguments(_, text):
                place = max(place for place, one in enumerate(found) if isinstance(one, tuple))
                found[place] = (found[place][0], found[place][1] + text)
            case Mismatch(_, why):
                found.append(("?", why))
    return found


def in_pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


OSLO_CALL = ("weather", '{"city": "Oslo"}')
