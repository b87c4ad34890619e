"""A body of OpenAI's Responses API as one of chat completions. Nothing is kept between requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apportion.core.errors import Unsupported, UsageError

# Fields under other names, or in other shapes, than those of chat completions.
OWN = frozenset(
    {
        "input",
        "instructions",
        "max_output_tokens",
        "tools",
        "text",
        "reasoning",
        "include",
        "top_logprobs",
        "truncation",
        "max_tool_calls",
        "previous_response_id",
        "conversation",
        "background",
        "prompt",
    }
)
STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
WITHOUT_EFFECT = ("truncation", "max_tool_calls")  # an answer is never truncated, and never calls by itself
PARAMS = {
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
    "reasoning_effort": "reasoning",
}
LOGPROBS = "message.output_text.logprobs"


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the body asks, as a body of chat completions.

    Raises:
        UsageError: the input is malformed.
        Unsupported: it goes on from something that a server would have to keep.
    """
    for name in STATEFUL:
        if body.get(name):
            raise Unsupported(
                f"{name} is not supported", "nothing is kept between requests", "send the whole input"
            ).about(name)
    chat = {name: value for name, value in body.items() if name not in OWN}
    chat["messages"] = messages(body.get("input"), body.get("instructions"))
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("tools") is not None:
        chat["tools"] = nested(body["tools"])
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    if text.get("format") is not None:
        chat["response_format"] = response_format(text["format"])
    if reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]
    if LOGPROBS in (body.get("include") or ()) or body.get("top_logprobs"):
        chat |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    return chat


def blamed(param: str) -> str:
    """The name that a field of chat completions has here."""
    first, dot, rest = param.partition(".")
    return "input" if first == "messages" else PARAMS.get(first, first) + dot + rest


def nested(tools: Sequence[Any]) -> list[Any]:
    """Tools as chat completions write them."""
    return [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        if isinstance(tool, Mapping) and tool.get("type") == "function" and "function" not in tool
        else tool
        for tool in tools
    ]


def response_format(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("type")
    if kind != "json_schema":
        return dict(given)
    return {"type": kind, "json_schema": {name: value for name, value in given.items() if name != "type"}}


def messages(given: Any, instructions: Any) -> list[dict[str, Any]]:
    """The conversation that the items of an input are."""
    found: list[dict[str, Any]] = []
    if instructions is not None:
        found.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise UsageError("input is a text or a list of at least one item").about("input")
    for place, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise UsageError("an item of the input is not an object").about(f"input.{place}")
        add(found, item, f"input.{place}")
    return found


def add(found: list[dict[str, Any]], item: Mapping[str, Any], where: str) -> None:
    """One item more; what the assistant thought, said and called in one turn is one message."""
    match item.get("type", "message"):
        case "message":
            content = content_of(item.get("content"), where)
            if item.get("role") == "assistant" and is_open(found):
                found[-1]["content"] = (found[-1].get("content") or "") + content
            else:
                found.append({"role": item.get("role"), "content": content})
        case "reasoning":
            thought = text_of(item.get("content") or item.get("summary"))
            if thought:
                turn(found)["reasoning_content"] = thought
        case "function_call":
            call_id, name = item.get("call_id"), item.get("name")
            if not isinstance(call_id, str) or not isinstance(name, str):
                raise UsageError("a call has a call_id and a name").about(where)
            function = {"name": name, "arguments": item.get("arguments") or "{}"}
            call = {"id": call_id, "type": "function", "function": function}
            turn(found).setdefault("tool_calls", []).append(call)
        case "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else content_of(output, where)
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        case kind:
            raise Unsupported(
                f"items of type {str(kind)[:40]!r} are not supported",
                hint="send messages and calls of functions",
            ).about(where)


def is_open(found: list[dict[str, Any]]) -> bool:
    """Whether the last message is of the assistant's turn, and nothing was called in it yet."""
    return bool(found) and found[-1]["role"] == "assistant" and "tool_calls" not in found[-1]


def turn(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of the assistant's turn."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": None})
    return found[-1]


def content_of(content: Any, where: str) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UsageError("the content of a message is a text or a list of parts").about(where)
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind not in ("input_text", "output_text", "text", "refusal"):
            raise Unsupported(
                f"a part of type {str(kind)[:40]!r} cannot be read",
                "models that are served here read text alone",
            ).about(where)
    return text_of(content)


def text_of(parts: Any) -> str:
    """The texts of parts, joined."""
    texts = [part.get("text", part.get("refusal", "")) for part in parts or () if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))
