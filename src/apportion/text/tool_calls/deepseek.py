"""DeepSeek V3 and R1: fenced JSON between marks with full-width bars."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, arguments_rule, quoted
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import begin_named, read_arguments
from apportion.text.tools import Tool


def mark(*words: str) -> str:
    """A mark: words with low blocks between them, in full-width bars."""
    return "<\uff5c" + "\u2581".join(words) + "\uff5c>"


ALL_BEGIN, ALL_END = mark("tool", "calls", "begin"), mark("tool", "calls", "end")
BEGIN, SEPARATOR, END = mark("tool", "call", "begin"), mark("tool", "sep"), mark("tool", "call", "end")
KIND, OPEN_FENCE, FENCE = "function", "```json", "```"


class DeepSeek(ToolFormat):
    """The word `function`, a name and a fenced JSON object, with marks that have full-width bars between."""

    models = "DeepSeek V3 and R1"
    example = (
        f'{ALL_BEGIN}{BEGIN}{KIND}{SEPARATOR}weather\n{OPEN_FENCE}\n{{"city": "Oslo"}}\n{FENCE}{END}{ALL_END}'
    )
    marks = (ALL_BEGIN, ALL_END, BEGIN, SEPARATOR, END)

    def matches(self, template: str) -> bool:
        return ALL_BEGIN in template and OPEN_FENCE in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while found := (yield from answer.until((ALL_BEGIN,), answer.say)):
            answer.mark(found)
            try:
                while (yield from answer.through(BEGIN, ALL_END)) == BEGIN:
                    yield from self._call(answer, tools)
                    yield from answer.through(END)
            except NotACall as error:
                answer.give_up(error)
            else:
                answer.border()

    def _call(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        """A call of either generation: newer ones have neither kind nor fence."""
        name = yield from answer.word((SEPARATOR,), "its name")
        answer.take(len(SEPARATOR))
        if name == KIND:
            name = (yield from answer.word(("{", OPEN_FENCE), "its name")).strip()
            answer.take(len((yield from answer.sees(OPEN_FENCE))))
        begin_named(answer, name.strip(), tools, self.new_call_id())
        yield from read_arguments(answer)
        yield from answer.skip_space()
        answer.take(len((yield from answer.sees(FENCE))))

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        heads = [quoted(f"{tool.name}\n{OPEN_FENCE}\n") for tool in tools]
        bodies = [f"{head} {arguments_rule(tool)}" for head, tool in zip(heads, tools, strict=True)]
        several = ' ("\\n" call)*' if parallel else ""
        return (
            f"calls: {written(ALL_BEGIN)} call{several} {written(ALL_END)}\n"
            f"call: {written(BEGIN)} {quoted(KIND)} {written(SEPARATOR)} ({' | '.join(bodies)}) "
            f'"\\n{FENCE}" {written(END)}\n'
        )


FORMAT = DeepSeek()
