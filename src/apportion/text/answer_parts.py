"""What the text of an answer means: plain text, reasoning, calls of tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """Words for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Words that the model thinks by."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A tool is called; its arguments follow."""

    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What looks like a call and is none; its text is passed on as `Text`."""

    raw: str
    why: str


Part: TypeAlias = Text | Reasoning | CallBegins | CallArguments | Mismatch


class AnswerParts:
    """The parts of one answer, as its text comes."""

    def feed(self, text: str) -> list[Part]:
        """The parts that more text brings."""
        return [Text(text)] if text else []

    def finish(self) -> list[Part]:
        """What was held back, at the end of the answer."""
        return []
