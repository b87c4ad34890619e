"""Mistral: a JSON list of objects behind [TOOL_CALLS]."""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, object_rule
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import CallObject, begin_named, read_arguments, read_list
from apportion.text.tools import Tool

BEGIN, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"


class Mistral(ToolFormat):
    """`[TOOL_CALLS]` and a JSON list of objects with `name` and `arguments`."""

    models = "Mistral 7B v0.3, Nemo, Large 2, Small 3.1"
    example = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}]'
    marks = (BEGIN, CALL_ID, ARGS)

    def matches(self, template: str) -> bool:
        return BEGIN in template and ARGS not in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while found := (yield from answer.until((BEGIN,), answer.say)):
            answer.mark(found)
            try:
                yield from answer.skip_space()
                if (yield from answer.sees("[")):
                    answer.take(1)
                    yield from read_list(answer, lambda: CallObject(answer, tools, self).read())
                else:
                    yield from self._named(answer, tools)
            except NotACall as error:
                answer.give_up(error)
            else:
                answer.border()

    def _named(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        """A name, an id where there is one, and arguments."""
        name = (yield from answer.word((CALL_ID, ARGS, "{"), "its name")).strip()
        call_id = ""
        if (yield from answer.sees(CALL_ID)):
            answer.take(len(CALL_ID))
            call_id = (yield from answer.word((ARGS, "{"), "its id")).strip()
        answer.take(len((yield from answer.sees(ARGS))))
        begin_named(answer, name, tools, call_id or self.new_call_id())
        yield from read_arguments(answer)

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        several = ' (", " call)*' if parallel else ""
        return f'calls: {written(BEGIN)} " "? "[" call{several} "]"\ncall: {object_rule(tools)}\n'

    def new_call_id(self) -> str:
        """Its chat templates refuse ids of any other length."""
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


FORMAT = Mistral()
