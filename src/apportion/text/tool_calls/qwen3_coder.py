"""Qwen3-Coder: parameters one by one, between tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apportion.text.answer_text import SPACE, AnswerText, NotACall, Reading
from apportion.text.json_text import JsonText
from apportion.text.lark_rules import Written, quoted, value_rule
from apportion.text.tool_calls import ToolFormat, Tools
from apportion.text.tool_calls._objects import begin_named
from apportion.text.tools import Tool

BEGIN, END = "<tool_call>", "</tool_call>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
SAYS_MORE = ("anyOf", "oneOf", "allOf", "$ref", "enum", "const")
PYTHON = {"True": "true", "False": "false", "None": "null"}


class Qwen3Coder(ToolFormat):
    """`<function=name>` and a `<parameter=name>` for each argument, between `<tool_call>` tags. Texts stand
    as they are, everything else as JSON, by the schema of the parameter.
    """

    models = "Qwen3-Coder, Qwen3-Next Coder, Nemotron 3"
    example = (
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"
    )
    marks = (BEGIN, END)

    def matches(self, template: str) -> bool:
        return FUNCTION in template and PARAMETER in template

    def read(self, answer: AnswerText, tools: Tools) -> Reading[None]:
        while found := (yield from answer.until((BEGIN, FUNCTION), answer.say)):
            answer.mark(found)
            try:
                if found == BEGIN and not (yield from answer.through(FUNCTION)):
                    raise NotACall("it is cut off")
                name = yield from answer.word((">",), "its name")
                begin_named(answer, name.strip(), tools, self.new_call_id())
                answer.take(1)
                yield from Parameters(answer, tools[name.strip()]).read()
                if found == BEGIN:
                    yield from answer.through(END)
            except NotACall as error:
                answer.give_up(error)
            else:
                answer.border()

    def calls(self, tools: Sequence[Tool], parallel: bool, written: Written) -> str:
        several = ' ("\\n" call)*' if parallel else ""
        rules = [function_rule(tool, place) for place, tool in enumerate(tools)]
        heads = " | ".join(f"function_{place}" for place in range(len(tools)))
        call = f'{written(BEGIN)} "\\n" ({heads}) "{FUNCTION_END}\\n" {written(END)}'
        return f"calls: call{several}\ncall: {call}\n{''.join(rules)}"


class Parameters:
    """Reads the parameters of a call that has begun, and writes them as one JSON object."""

    def __init__(self, answer: AnswerText, tool: Tool) -> None:
        self._answer = answer
        self._schemas = schemas_of(tool)
        self._separator = "{"

    def read(self) -> Reading[None]:
        answer = self._answer
        answer.mark()  # what was read before has gone out
        while (yield from answer.through(PARAMETER, FUNCTION_END)) == PARAMETER:
            name = yield from answer.word((">",), "the name of a parameter")
            answer.take(1)
            answer.take(len((yield from answer.sees("\n"))))
            answer.arguments(f"{self._separator}{quoted(name)}: ")
            self._separator = ", "
            schema = self._schemas.get(name, {})
            yield from self._text() if is_text(schema) else self._value(name, schema)
            answer.take(len((yield from answer.sees("\n"))) + len(PARAMETER_END))
            answer.mark()
        answer.arguments("{}" if self._separator == "{" else "}")

    def _text(self) -> Reading[None]:
        answer = self._answer

        def passed(text: str) -> None:
            answer.arguments(quoted(text)[1:-1])
            answer.mark()

        answer.arguments('"')
        yield from self._up_to_end(passed)
        answer.arguments('"')

    def _value(self, name: str, schema: Mapping[str, Any]) -> Reading[None]:
        pieces: list[str] = []
        yield from self._up_to_end(pieces.append)
        text = "".join(pieces).strip(SPACE)
        text = PYTHON.get(text, text)
        if not is_json(text):
            if not may_be_text(schema):
                raise NotACall(f"its parameter {name[:64]!r} is no JSON")
            text = quoted("".join(pieces))
        self._answer.arguments(text)

    def _up_to_end(self, passed: Any) -> Reading[None]:
        if not (yield from self._answer.up_to((f"\n{PARAMETER_END}", PARAMETER_END), passed)):
            raise NotACall("a parameter of it is cut off")


def schemas_of(tool: Tool) -> Mapping[str, Mapping[str, Any]]:
    found = tool.parameters.get("properties")
    if not isinstance(found, Mapping):
        return {}
    return {str(name): schema for name, schema in found.items() if isinstance(schema, Mapping)}


def is_text(schema: Mapping[str, Any]) -> bool:
    """Whether a parameter can be nothing but text."""
    kind = schema.get("type")
    return kind == "string" or (kind is None and not any(word in schema for word in SAYS_MORE))


def may_be_text(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind is None or (isinstance(kind, list) and "string" in kind)


def is_json(text: str) -> bool:
    """Whether the text is one JSON value."""
    value = JsonText()
    return value.feed(text + " ") >= len(text) and value.is_done


def function_rule(tool: Tool, place: int) -> str:
    """The rules of a call of one tool: its parameters in the order of the schema."""
    schemas = schemas_of(tool)
    required = tool.parameters.get("required")
    needed = required if isinstance(required, list) else []
    lines = [f'function_{place}: "{FUNCTION}" {quoted(tool.name)} ">\\n"']
    rules = ""
    for number, (name, schema) in enumerate(schemas.items()):
        rule = f"parameter_{place}_{number}"
        lines.append(rule if name in needed else f"{rule}?")
        head, end = quoted(f"{PARAMETER}{name}>\n"), f"\n{PARAMETER_END}\n"
        if is_text(schema) and "enum" not in schema:
            rules += f"{rule}: {head} text_{place}_{number}\n"
            rules += f"text_{place}_{number}[suffix={quoted(end)}]: /(?s:.*)/\n"
        elif is_text(schema):
            rules += (
                f"{rule}: {head} ({' | '.join(quoted(str(one)) for one in schema['enum'])}) {quoted(end)}\n"
            )
        else:
            rules += f"{rule}: {head} {value_rule(tool, schema)} {quoted(end)}\n"
    return " ".join(lines) + "\n" + rules


FORMAT = Qwen3Coder()
