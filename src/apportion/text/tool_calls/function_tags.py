"""Functionary: JSON arguments between tags that name the function."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, arguments_rule, quoted
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import begin_named, read_arguments
from apportion.text.tools import Tool

BEGIN, END = "<function=", "</function>"


class FunctionTags(ToolFormat):
    """`<function=name>`, a JSON object and `</function>`, for each call."""

    models = "Functionary 3.1"
    example = '<function=weather>{"city": "Oslo"}</function>'

    def matches(self, template: str) -> bool:
        return BEGIN in template and "<parameter=" not in template and "<tool_call>" not in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while found := (yield from answer.until((BEGIN,), answer.say)):
            answer.mark(found)
            try:
                name = yield from answer.word((">",), "its name")
                answer.take(1)
                begin_named(answer, name.strip(), tools, self.new_call_id())
                yield from read_arguments(answer)
                yield from answer.through(END)
            except NotACall as error:
                answer.give_up(error)
            else:
                answer.border()

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        heads = [quoted(f"{BEGIN}{tool.name}>") for tool in tools]
        bodies = [f"{head} {arguments_rule(tool)}" for head, tool in zip(heads, tools, strict=True)]
        return f'calls: call{"+" if parallel else ""}\ncall: ({" | ".join(bodies)}) "{END}"\n'


FORMAT = FunctionTags()
