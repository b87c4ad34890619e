"""Tools that a model may call: functions, each with a JSON schema of its arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apportion.core.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_HINT = 'a tool looks like {"type": "function", "function": {"name": "weather", "parameters": {...}}}'


@dataclass(frozen=True, slots=True)
class Tool:
    """A function.

    Attributes:
        parameters: JSON schema of its arguments, an object.
        strict: arguments are held to the schema to the letter; what of it cannot be held to is an error.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False

    def told(self) -> dict[str, Any]:
        """The tool as chat templates expect it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


def checked_tools(tools: Sequence[Mapping[str, Any] | Tool]) -> tuple[Tool, ...]:
    """The tools of a request, each as `{"type": "function", "function": {...}}`.

    Raises:
        UsageError: one is malformed, or two have the same name.
    """
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise UsageError("tools is not a list", hint=_HINT)
    found = tuple(
        tool if isinstance(tool, Tool) else _checked(tool, place) for place, tool in enumerate(tools)
    )
    names: set[str] = set()
    for place, tool in enumerate(found):
        if tool.name in names:
            raise UsageError(f"two tools are called {tool.name}", tool=place)
        names.add(tool.name)
    return found


def _checked(tool: Mapping[str, Any], place: int) -> Tool:
    kind = tool.get("type", "function") if isinstance(tool, Mapping) else None
    function = tool.get("function") if kind == "function" else None
    if not isinstance(function, Mapping):
        raise UsageError("a tool is not a function", hint=_HINT, tool=place, type=repr(kind)[:64])
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            "a tool has no name that can be called",
            "a name has 1 to 128 letters, digits and _ . : / -",
            tool=place,
            name=repr(name)[:64],
        )
    parameters = function.get("parameters")
    strict = function.get("strict")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UsageError("the parameters of a tool are a JSON schema, an object", tool=place, name=name)
    if strict is not None and not isinstance(strict, bool):
        raise UsageError("strict is true or false", tool=place, name=name)
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise UsageError("the description of a tool is a text", tool=place, name=name)
    schema = {"type": "object", "properties": {}} if parameters is None else dict(parameters)
    return Tool(name, description or "", schema, strict or False)
