"""Tools for models whose chat template knows none: told of in a message, calls and results as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apportion.text.tools import Tool

_KNOWS = re.compile(r"\btools\b")
_NO_SYSTEM = re.compile(r"system role (is )?not supported", re.IGNORECASE)
_INTRODUCTION = """You can call functions. Each line describes one, its arguments as a JSON schema:
{tools}
To call a function, answer with nothing but a JSON object: {{"name": "...", "arguments": {{...}}}}
To call several, answer with a JSON list of such objects. Where no function helps, answer in plain words."""


def knows_tools(template: str) -> bool:
    """Whether a chat template with this source writes tools into the prompt."""
    return _KNOWS.search(template) is not None


def told(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], template: str) -> list[dict[str, Any]]:
    """The messages with what such a template would leave out: tools, calls and their results."""
    plain = [_plain(message) for message in messages]
    return _joined(_with_introduction(plain, tools, template) if tools else plain)


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message.get("role") == "tool":
        name = message.get("name") or "the function"
        return {"role": "user", "content": f"{name} returned: {_text(content)}"}
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    written = [_call(call) for call in calls]
    text = json.dumps(written[0] if len(written) == 1 else written, ensure_ascii=False)
    said = _text(content)
    rest = {key: value for key, value in message.items() if key not in ("tool_calls", "content")}
    return {**rest, "content": f"{said}\n{text}" if said else text}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    return {"name": function.get("name", ""), "arguments": function.get("arguments", {})}


def _with_introduction(
    messages: list[dict[str, Any]], tools: Sequence[Tool], template: str
) -> list[dict[str, Any]]:
    """In the system message; in the user's first one, where the template refuses system messages."""
    lines = "\n".join(json.dumps(tool.told()["function"], ensure_ascii=False) for tool in tools)
    introduction = _INTRODUCTION.format(tools=lines)
    first = messages[0] if messages else {}
    takes_system = "system" in template and not _NO_SYSTEM.search(template)
    if first.get("role") == "system" or (not takes_system and first.get("role") == "user"):
        return [{**first, "content": f"{introduction}\n\n{_text(first.get('content'))}"}, *messages[1:]]
    return [{"role": "system", "content": introduction}, *messages]


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of several calls, and what the user says next, as one message: many templates want turns."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if found and message.get("role") == "user" == found[-1].get("role"):
            text = f"{_text(found[-1].get('content'))}\n{_text(message.get('content'))}"
            found[-1] = {**found[-1], "content": text}
        else:
            found.append(message)
    return found


def _text(content: Any) -> str:
    return content if isinstance(content, str) else ""
