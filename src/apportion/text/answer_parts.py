"""What an answer consists of: text, reasoning and tool calls, told apart while it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from apportion.text.reasoning import ReasoningMarks
    from apportion.text.tool_calls import ToolFormat
    from apportion.text.tools import Tool


@dataclass(frozen=True, slots=True)
class Text:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A call of a tool. Its arguments follow, before the next call begins.

    Attributes:
        index: its place among the calls of the answer, from 0.
        name: one of the tools that were given.
    """

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
    """Something that looks like a call and cannot be read as one. All of it that is not arguments of a call
    that has begun is passed on as text.

    Attributes:
        raw: as the model wrote it, up to the place where it cannot be read on.
        why: one clause, without anything that the model wrote but names.
    """

    raw: str
    why: str


Part: TypeAlias = Text | Reasoning | CallBegins | CallArguments | Mismatch


class AnswerParts:
    """Takes the text of one answer as it arrives and tells its parts apart.

    However the text is cut into pieces, the parts are the same once neighbours of a kind are joined. No part
    ends with half of a mark.

    Args:
        tool_format: how the model writes calls; None where there are no tools, and all is text.
        tools: those that may be called.
        reasoning: the marks around the model's reasoning; None where it is not told apart.
        is_open: the prompt ends within the reasoning, so that the answer begins with it.
    """

    def __init__(
        self,
        tool_format: ToolFormat | None = None,
        tools: Sequence[Tool] = (),
        reasoning: ReasoningMarks | None = None,
        is_open: bool = False,
    ) -> None:
        from apportion.text.answer_text import AnswerText, read_answer

        self._answer = AnswerText()
        self._reading = read_answer(self._answer, tool_format, tools, reasoning, is_open)
        self._plain = tool_format is None and reasoning is None

    def feed(self, text: str) -> list[Part]:
        """What this piece of text completes; empty while it may be the beginning of a mark."""
        if self._plain:
            return [Text(text)] if text else []
        self._answer.add(text)
        return self._advance()

    def finish(self) -> list[Part]:
        """What was held back, at the end of the answer. Nothing is fed after it."""
        if self._plain:
            return []
        self._answer.is_ended = True
        return self._advance()

    def _advance(self) -> list[Part]:
        next(self._reading, None)
        return self._answer.taken_parts()
