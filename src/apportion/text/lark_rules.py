"""What several grammars of answers have in common, in the words of llguidance's Lark."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from apportion.text.tools import Tool

Written: TypeAlias = Callable[[str], str]
"""A mark in the words of a grammar: text, or the number of a token that is no text."""

JSON_SPACE = "[ \\n\\t]{0,16}"  # bounded: small models may never stop


def quoted(text: str) -> str:
    """A text in the words of a grammar."""
    return json.dumps(text, ensure_ascii=False)


def object_rule(tools: Sequence[Tool], before: str = "", arguments: str = "arguments") -> str:
    """JSON objects with a tool's name and arguments, one for each tool."""
    found = []
    for tool in tools:
        head = f"{before}{{{quoted('name')}: {quoted(tool.name)}, {quoted(arguments)}: "
        found.append(f"{quoted(head)} {arguments_rule(tool)}")
    return f'({" | ".join(found)}) "}}"'


def arguments_rule(tool: Tool) -> str:
    """The arguments of a tool: JSON of its schema."""
    schema = dict(tool.parameters)
    if not schema.get("properties") and schema.keys() <= {"type", "properties"}:
        schema["additionalProperties"] = False
    return value_rule(tool, schema)


def value_rule(tool: Tool, schema: Mapping[str, Any]) -> str:
    """JSON of a schema, the tool's own or one of its parts: what a part refers to stands in the whole."""
    shared = {name: tool.parameters[name] for name in ("$defs", "definitions") if name in tool.parameters}
    guidance = {"whitespace_pattern": JSON_SPACE, "lenient": not tool.strict}
    return f"%json {json.dumps({**shared, **schema, 'x-guidance': guidance}, ensure_ascii=False)}"


def text_up_to(rule: str, mark: str, written: Written) -> str:
    """A rule: any text, and the mark behind it."""
    word = written(mark)
    if word == quoted(mark):
        return f"{rule}[suffix={word}]: /(?s:.*)/\n"
    return f"{rule}: /(?s:.*)/ {word}\n"
