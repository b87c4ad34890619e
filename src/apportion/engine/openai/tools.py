"""What a request says about tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from apportion.core.errors import LimitExceeded, Unsupported, UsageError, unknown
from apportion.engine.openai.limits import AskLimits, check_schema

Choice: TypeAlias = Literal["auto", "none", "required"]
MODES: tuple[Choice, ...] = ("auto", "none", "required")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that a model may call.

    Attributes:
        offered: `{"type": "function", "function": {"name", "description", "parameters", "strict"}}` each.
        choice: `required` holds the answer to calls; `none` says nothing of tools to the model.
        names: of those that may be called; None for all.
        parallel: whether one answer may hold several calls.
    """

    offered: tuple[Mapping[str, Any], ...] = ()
    choice: Choice = "auto"
    names: tuple[str, ...] | None = None
    parallel: bool = True

    def __bool__(self) -> bool:
        """Whether any may be called."""
        return bool(self.offered) and self.choice != "none"


NO_TOOLS = Tools()


def read_tools(known: Mapping[str, Any], limits: AskLimits) -> Tools:
    """The tools of a body, and which of them may be called.

    Raises:
        UsageError: a tool or the choice is malformed, or names what is not there.
        Unsupported: a tool that is no function.
        LimitExceeded: there are too many, or one is too large.
    """
    offered = tuple(offers(known.get("tools", []), limits))
    parallel = known.get("parallel_tool_calls", True)
    if not isinstance(parallel, bool):
        raise UsageError("parallel_tool_calls is true or false").about("parallel_tool_calls")
    choice, names = read_choice(known.get("tool_choice", "auto"))
    have = {tool["function"]["name"] for tool in offered}
    for name in names or ():
        if name not in have:
            raise unknown("tool", name[:64], have, UsageError).about("tool_choice")
    if choice == "required" and not offered:
        raise UsageError("tool_choice asks for a call, and there are no tools").about("tool_choice")
    return Tools(offered, choice, names, parallel)


def offers(given: Any, limits: AskLimits) -> list[Mapping[str, Any]]:
    if not isinstance(given, list):
        raise UsageError("tools is a list", found=type(given).__name__).about("tools")
    if len(given) > limits.num_tools:
        raise LimitExceeded("there are too many tools", tools=len(given), limit=limits.num_tools).about(
            "tools"
        )
    tools = [offer(tool, f"tools.{place}", limits) for place, tool in enumerate(given)]
    names = [tool["function"]["name"] for tool in tools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError("two tools have the same name", tool=name).about(f"tools.{place}")
    return tools


def offer(tool: Any, where: str, limits: AskLimits) -> Mapping[str, Any]:
    """One tool, with what chat templates read of it."""
    kind = tool.get("type", "function") if isinstance(tool, Mapping) else None
    if isinstance(kind, str) and kind != "function":
        raise Unsupported(f"tools of type {kind[:40]!r} are not supported", hint="only functions are").about(
            where
        )
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping):
        raise UsageError(
            "a tool is not a function", hint='{"type": "function", "function": {"name": ...}}'
        ).about(where)
    name, about = function.get("name"), function.get("description")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(
            "a tool has no name", "1 to 64 letters, digits, '_', '.' and '-'", value=repr(name)[:64]
        ).about(f"{where}.function.name")
    if about is not None and not isinstance(about, str):
        raise UsageError("a tool's description is text", tool=name).about(f"{where}.function.description")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise UsageError("a tool's parameters are a JSON schema", tool=name).about(
            f"{where}.function.parameters"
        )
    check_schema(parameters, "a tool's parameters are", f"{where}.function.parameters", limits)
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise UsageError("strict is true or false", tool=name).about(f"{where}.function.strict")
    told = {"name": name, "description": about or "", "parameters": parameters}
    return {"type": "function", "function": {**told, "strict": strict or False}}


def read_choice(given: Any) -> tuple[Choice, tuple[str, ...] | None]:
    """What `tool_choice` asks for, and of which tools; None for all."""
    for mode in MODES:
        if given == mode:
            return mode, None
    if isinstance(given, Mapping):
        if given.get("type") == "function" and (name := name_in(given)) is not None:
            return "required", (name,)
        allowed = given.get("allowed_tools", given)
        if given.get("type") == "allowed_tools" and isinstance(allowed, Mapping):
            listed = allowed.get("tools")
            names = [name_in(tool) for tool in listed] if isinstance(listed, list) else []
            for mode in MODES:
                if mode == allowed.get("mode", "auto") and names and None not in names:
                    return mode, tuple(name for name in names if name is not None)
    raise UsageError(
        "tool_choice is none that is known",
        hint='"auto", "none", "required" or {"type": "function", "function": {"name": ...}}',
        value=repr(given)[:64],
    ).about("tool_choice")


def name_in(tool: Any) -> str | None:
    """The function's name, in the form of either of OpenAI's APIs."""
    if not isinstance(tool, Mapping):
        return None
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else tool.get("name")
    return name if isinstance(name, str) else None
