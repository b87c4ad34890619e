"""Plain JSON, for models whose chat template says nothing of calls, or writes them in an unknown way."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, object_rule
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import CallObject, read_list
from apportion.text.tools import Tool

FENCES = ("```json", "```")


class GenericJson(ToolFormat):
    """An answer that begins with a JSON object with `name` and `arguments`, or with a list of such objects,
    in a fence or without. Every other answer is text.
    """

    models = "all others; where the chat template knows no tools, a system message tells of them"
    example = '{"name": "weather", "arguments": {"city": "Oslo"}}'

    def matches(self, template: str) -> bool:
        return True

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        answer.mark()
        try:
            yield from answer.skip_space()
            fence = yield from answer.sees(*FENCES)
            answer.take(len(fence))
            yield from answer.skip_space()
            yield from self._calls(answer, tools)
            if fence:
                yield from answer.through(FENCES[-1])
        except NotACall as error:
            answer.give_up(error)
        else:
            answer.border()
        yield from answer.until((), answer.say)

    def _calls(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        def read() -> Reading[None]:
            return CallObject(answer, tools, self, is_marked=False).read()

        if (yield from answer.sees("[")):
            answer.take(1)
            yield from read_list(answer, read)
        else:
            yield from read()

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        several = ' | "[" call (", " call)* "]"' if parallel else ""
        return f"calls: call{several}\ncall: {object_rule(tools)}\n"


FORMAT = GenericJson()
