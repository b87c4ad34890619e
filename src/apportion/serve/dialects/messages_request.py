"""A body of Anthropic's Messages API as one of chat completions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apportion.core.errors import Unsupported, UsageError

OWN = frozenset(
    {
        "messages",
        "system",
        "stop_sequences",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
    }
)
# What says how others keep, bill and route; it says nothing about the answer.
WITHOUT_EFFECT = frozenset({"cache_control", "inference_geo", "diagnostics", "speed", "service_tier"})
PARAMS = {"stop": "stop_sequences", "response_format": "output_config"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the body asks, as a body of chat completions.

    Raises:
        UsageError: a message, block or tool is malformed.
        Unsupported: a block that is no text, thought, call or result of one; a tool that is no function.
    """
    chat = {name: value for name, value in body.items() if name not in OWN | WITHOUT_EFFECT}
    found = (
        []
        if body.get("system") is None
        else [{"role": "system", "content": text_of(body["system"], "system")}]
    )
    for place, message in enumerate(body["messages"]):
        found += messages_of(message, f"messages.{place}")
    chat["messages"] = found
    if body.get("stop_sequences") is not None:
        chat["stop"] = body["stop_sequences"]
    if body.get("tools"):
        chat["tools"] = [tool_of(tool, f"tools.{place}") for place, tool in enumerate(body["tools"])]
    if body.get("tool_choice") is not None:
        chat |= choice_of(body["tool_choice"])
    output = body.get("output_format") or (body.get("output_config") or {}).get("format")
    if output is not None:
        chat["response_format"] = response_format(output)
    thinks = wants_thinking(body)
    switches = {"enable_thinking": thinks, "thinking": thinks}
    return {**chat, "chat_template_kwargs": {**switches, **(body.get("chat_template_kwargs") or {})}}


def wants_thinking(body: Mapping[str, Any]) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def blamed(param: str) -> str:
    """The name that a field of chat completions has here."""
    first, dot, rest = param.partition(".")
    return PARAMS.get(first, first) + dot + rest


def response_format(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping) or given.get("type") != "json_schema" or "schema" not in given:
        raise UsageError(
            "the output's format is none that is known", hint='{"type": "json_schema", "schema": ...}'
        ).about("output_config")
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": given["schema"]}}


def tool_of(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A tool as chat completions write it."""
    kind = tool.get("type") or "custom"
    if kind != "custom":
        raise Unsupported(
            f"tools of type {str(kind)[:40]!r} are not supported", hint="only functions are"
        ).about(where)
    function = {
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema"),
    }
    return {"type": "function", "function": function}


def choice_of(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("type")
    choice: Any = CHOICES.get(kind) if isinstance(kind, str) else None
    if kind == "tool":
        choice = {"type": "function", "function": {"name": given.get("name")}}
    if choice is None:
        raise UsageError(
            "tool_choice is none that is known", hint='its type is "auto", "any", "none" or "tool"'
        ).about("tool_choice")
    parallel = {"parallel_tool_calls": False} if given.get("disable_parallel_tool_use") else {}
    return {"tool_choice": choice, **parallel}


def messages_of(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """A message as the messages of a chat: results of tools are messages of their own, and come first."""
    role, content = message["role"], message["content"]
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    own: dict[str, Any] = {"role": role, "content": ""}
    results: list[dict[str, Any]] = []
    for number, block in enumerate(content):
        add(own, results, block, f"{where}.content.{number}")
    has_own = own["content"] or len(own) > 2 or not results
    return [*results, own] if has_own else results


def add(own: dict[str, Any], results: list[dict[str, Any]], block: Mapping[str, Any], where: str) -> None:
    """One block more of a message."""
    match block.get("type"):
        case "text":
            own["content"] += text_of([block], where)
        case "thinking":
            own["reasoning_content"] = own.get("reasoning_content", "") + str(block.get("thinking", ""))
        case "redacted_thinking":
            pass
        case "tool_use":
            if not isinstance(block.get("id"), str) or not isinstance(block.get("name"), str):
                raise UsageError("a tool_use block has an id and a name").about(where)
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            call = {"name": block["name"], "arguments": arguments}
            own.setdefault("tool_calls", []).append({"id": block["id"], "type": "function", "function": call})
        case "tool_result":
            if not isinstance(block.get("tool_use_id"), str):
                raise UsageError("a tool_result block has a tool_use_id").about(where)
            content = text_of(block.get("content") or "", where)
            results.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": content})
        case kind:
            raise Unsupported(
                f"blocks of type {str(kind)[:40]!r} cannot be read",
                "models that are served here read text alone",
            ).about(where)


def text_of(content: Any, where: str) -> str:
    """A text, or the texts of blocks of text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UsageError("what is not text is a list of blocks").about(where)
    for block in content:
        if (
            not isinstance(block, Mapping)
            or block.get("type") != "text"
            or not isinstance(block.get("text"), str)
        ):
            raise Unsupported(
                "a block that is no text cannot be read", "models that are served here read text alone"
            ).about(where)
    return "".join(block["text"] for block in content)
