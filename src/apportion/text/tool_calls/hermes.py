"""Hermes: JSON objects between <tool_call> tags."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, object_rule
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import CallObject
from apportion.text.tools import Tool

BEGIN, END = "<tool_call>", "</tool_call>"


class Hermes(ToolFormat):
    """A JSON object with `name` and `arguments` between `<tool_call>` tags, for each call."""

    models = "Qwen 2.5 and 3, Hermes, Granite 4, SmolLM3"
    example = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    marks = (BEGIN, END)

    def matches(self, template: str) -> bool:
        return BEGIN in template and "<function=" not in template and "<arg_key>" not in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while found := (yield from answer.until((BEGIN,), answer.say)):
            answer.mark(found)
            try:
                yield from answer.skip_space()
                yield from CallObject(answer, tools, self).read()
                yield from answer.through(END)
            except NotACall as error:
                answer.give_up(error)
            else:
                answer.border()

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        several = ' ("\\n" call)*' if parallel else ""
        body = object_rule(tools, before="\n")
        return f'calls: call{several}\ncall: {written(BEGIN)} {body} "\\n" {written(END)}\n'


FORMAT = Hermes()
