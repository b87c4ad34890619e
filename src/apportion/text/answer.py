"""A whole answer, from its parts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apportion.core.errors import BadFile
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool.

    Attributes:
        arguments: JSON text of an object; cut off where the answer is.
    """

    call_id: str
    name: str
    arguments: str

    def values(self) -> dict[str, Any]:
        """The arguments.

        Raises:
            BadFile: the answer was cut off within them, or broke off.
        """
        try:
            values = json.loads(self.arguments)
        except ValueError as error:
            raise BadFile(f"the arguments of a call of {self.name} are no JSON", str(error)[:200]) from None
        assert isinstance(values, dict)
        return values


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says.

    Attributes:
        text: for the reader.
        reasoning: what the model thought before.
        mismatches: why what looked like calls could not be read.
    """

    text: str
    reasoning: str
    calls: tuple[Call, ...]
    mismatches: tuple[str, ...]


def answer_of(parts: Iterable[Part]) -> Answer:
    """All parts of one answer, put together."""
    text, reasoning = "", ""
    begun: list[CallBegins] = []
    arguments: list[str] = []
    mismatches = []
    for part in parts:
        match part:
            case Text(more):
                text += more
            case Reasoning(more):
                reasoning += more
            case CallBegins():
                begun.append(part)
                arguments.append("")
            case CallArguments(index, more):
                arguments[index] += more
            case Mismatch(_, why):
                mismatches.append(why)
    calls = [Call(one.call_id, one.name, given) for one, given in zip(begun, arguments, strict=True)]
    return Answer(text, reasoning, tuple(calls), tuple(mismatches))
