"""Llama 3: bare JSON objects, or objects behind <|python_tag|>."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, object_rule
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import CallObject
from apportion.text.tools import Tool

TAG = "<|python_tag|>"
TOLD = '{"name": function name, "parameters":'


class Llama3(ToolFormat):
    """An answer that begins with a JSON object with `name` and `parameters`, behind `<|python_tag|>` or
    without it; several are separated by semicolons. Other objects are text.
    """

    models = "Llama 3.1, 3.2 and 3.3"
    example = '{"name": "weather", "parameters": {"city": "Oslo"}}'
    marks = (TAG,)

    def matches(self, template: str) -> bool:
        others = ("<tool_call>", "<function=")
        return (TAG in template or TOLD in template) and not any(mark in template for mark in others)

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        answer.mark()
        yield from answer.skip_space()
        if (yield from answer.sees("{")):
            yield from self._calls(answer, tools, is_marked=False)
        else:
            answer.say(answer.unmark())
        while found := (yield from answer.until((TAG,), answer.say)):
            answer.mark(found)
            yield from answer.skip_space()
            yield from self._calls(answer, tools, is_marked=True)

    def _calls(self, answer: AnswerText, tools: Tools, is_marked: bool) -> Reading[None]:
        try:
            while True:
                yield from CallObject(answer, tools, self, is_marked).read()
                yield from answer.skip_space()
                if not (yield from answer.sees(";")):
                    break
                answer.take(1)
                yield from answer.skip_space()
        except NotACall as error:
            answer.give_up(error)
        else:
            answer.border()

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        several = ' ("; " call)*' if parallel else ""
        return f"calls: call{several}\ncall: {object_rule(tools, arguments='parameters')}\n"


FORMAT = Llama3()
