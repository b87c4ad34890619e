"""Harmony, the format of gpt-oss: messages in channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.lark_rules import Written, arguments_rule, quoted, text_up_to
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import begin_named, read_arguments
from apportion.text.tools import Tool

START, CHANNEL, CONSTRAIN, MESSAGE, END = (
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
)
RECIPIENT = re.compile(r"\bto=([^\s<]+)")
IN_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
FUNCTIONS = "functions."


class Harmony(ToolFormat):
    """Messages in channels: reasoning in `analysis`, text in `final` and `commentary`, calls in messages to
    `functions.` and a name.
    """

    models = "gpt-oss"
    example = (
        f"{CHANNEL}analysis{MESSAGE}Look it up.{END}{START}assistant{CHANNEL}commentary "
        f'to=functions.weather {CONSTRAIN}json{MESSAGE}{{"city": "Oslo"}}'
    )
    marks = (START, CHANNEL, CONSTRAIN, MESSAGE, END)
    frames_answers = True

    def matches(self, template: str) -> bool:
        return CHANNEL in template and MESSAGE in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while not answer.is_over:
            answer.mark()
            yield from answer.skip_space()
            if not (yield from answer.sees(START, CHANNEL, "to=", "assistant")):
                answer.say(answer.unmark())
                yield from answer.until((END, START), answer.say)
                continue
            try:
                yield from self._message(answer, tools)
            except NotACall as error:
                answer.give_up(error)

    def _message(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        """One message, behind the end of the one before it."""
        header = yield from answer.word((MESSAGE,), "the head of a message")
        answer.take(len(MESSAGE))
        recipient, channel = RECIPIENT.search(header), IN_CHANNEL.search(header)
        if recipient is not None:
            name = recipient[1].removeprefix(FUNCTIONS)
            begin_named(answer, name, tools, self.new_call_id())
            yield from read_arguments(answer)
            yield from answer.through(END)
            answer.border()
            return
        answer.unmark()
        answer.border()
        is_thought = channel is not None and channel[1] == "analysis"
        yield from answer.until((END,), answer.reason if is_thought else answer.say)

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        bodies = []
        for tool in tools:
            head = quoted(f"commentary to={FUNCTIONS}{tool.name} ")
            bodies.append(f'{head} {written(CONSTRAIN)} "json" {written(MESSAGE)} {arguments_rule(tool)}')
        return f"calls: {_analysis(written)} {written(CHANNEL)} ({' | '.join(bodies)})\n{_thought(written)}"

    def before(self, written: Written) -> str:
        final = f'{written(CHANNEL)} "final" {written(MESSAGE)}'
        return f"before: {_analysis(written)} {final}\n{_thought(written)}"

    def history(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Its chat template reads the reasoning before a call as `thinking`, and wants it or a content."""
        return [
            {**message, "thinking": message["reasoning_content"]}
            if message.get("tool_calls") and message.get("reasoning_content") and not message.get("content")
            else message
            for message in messages
        ]


def _analysis(written: Written) -> str:
    head = f'{written(CHANNEL)} "analysis" {written(MESSAGE)}'
    return f'({head} thought {written(START)} "assistant")?'


def _thought(written: Written) -> str:
    return text_up_to("thought", END, written)


FORMAT = Harmony()
