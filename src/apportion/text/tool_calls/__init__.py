"""How models write calls of tools: one wire format a file.

A format is found by what stands in a model's chat template. It reads calls out of an answer as the answer
arrives, and writes the grammar that holds an answer to calls.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from apportion.core.registry import Registry

if TYPE_CHECKING:
    from apportion.text.answer_text import AnswerText, Reading
    from apportion.text.lark_rules import Written
    from apportion.text.tools import Tool

Tools: TypeAlias = Mapping[str, "Tool"]


class ToolFormat:
    """Base of the formats. The first paragraph of the docstring is what the documentation says of it.

    Attributes:
        models: who writes so.
        example: an answer with one call.
        marks: in answers, those that may be control tokens of the vocabulary: their text has to be seen.
        frames_answers: marks stand around all answers, with or without calls, and around reasoning.
    """

    models: ClassVar[str]
    example: ClassVar[str]
    marks: ClassVar[tuple[str, ...]] = ()
    frames_answers: ClassVar[bool] = False

    @classmethod
    def sentence(cls) -> str:
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())

    def matches(self, template: str) -> bool:
        """Whether the model whose chat template has this source writes so."""
        raise NotImplementedError

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        """An answer behind its reasoning, to its end."""
        raise NotImplementedError

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        """Lark rules; `calls` is one call or, where they may be parallel, several."""
        raise NotImplementedError

    def before(self, written: Written) -> str:
        """Lark rules; `before` is what stands before an answer that must have a form. Empty for nothing."""
        return ""

    def history(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Earlier messages as the model's chat template reads them."""
        return messages

    def new_call_id(self) -> str:
        """A name for a call, unlike any other."""
        return f"call_{secrets.token_hex(12)}"


TOOL_FORMATS = Registry("tool format", __name__, "FORMAT", ToolFormat)
BASELINE = "generic_json"


def format_of(template: str) -> ToolFormat:
    """The format of the model whose chat template has this source; the generic one where none is known."""
    for name in TOOL_FORMATS:
        if name != BASELINE and TOOL_FORMATS.get(name).matches(template):
            return TOOL_FORMATS.get(name)
    return TOOL_FORMATS.get(BASELINE)
