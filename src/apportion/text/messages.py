"""The messages of a chat, checked and brought into the one shape that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apportion.core.errors import UsageError

MESSAGE_KEYS = frozenset(
    {
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "reasoning_content",
        "reasoning",
        "thinking",
        "tool_plan",
        "citations",
        "prefix",
    }
)
_HINT = 'a message looks like {"role": "user", "content": "Hello"}'


def checked_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as templates expect them: contents as plain texts, arguments of tool calls as objects.

    Raises:
        UsageError: no messages, no role, an unknown field, or a content that is not text.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise UsageError("a chat is a list of at least one message", hint=_HINT)
    return [_checked(message, place) for place, message in enumerate(messages)]


def other_shapes(messages: Sequence[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The same messages for templates that join arguments of calls, or contents beside calls, to texts."""
    if not any(message.get("tool_calls") for message in messages):
        return
    for as_text, fills_content in ((True, False), (False, True), (True, True)):
        yield [_reshaped(message, as_text, fills_content) for message in messages]


def _reshaped(message: Mapping[str, Any], as_text: bool, fills_content: bool) -> dict[str, Any]:
    result = dict(message)
    if fills_content and result.get("content") is None:
        result["content"] = ""
    if as_text and result.get("tool_calls"):
        result["tool_calls"] = [_with_text(call) for call in result["tool_calls"]]
    return result


def _with_text(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str):
        return call
    arguments = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _checked(message: Mapping[str, Any], place: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise UsageError("a message is not an object", hint=_HINT, message=place)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise UsageError("a message has no role", hint=_HINT, message=place)
    unknown = [str(key) for key in message if key not in MESSAGE_KEYS]
    if unknown:
        raise UsageError(
            f"a message has an unknown field: {unknown[0][:64]}",
            hint="known: " + " ".join(sorted(MESSAGE_KEYS)),
            message=place,
        )
    result = dict(message)
    if "content" in message or not message.get("tool_calls"):
        result["content"] = _content(message.get("content"), bool(message.get("tool_calls")), place)
    if message.get("tool_calls") is not None:
        result["tool_calls"] = _tool_calls(message["tool_calls"], place)
    return result


def _content(content: Any, may_be_missing: bool, place: int) -> str | None:
    """Text as it is; a list of text parts joined, as templates that take such lists join them."""
    if isinstance(content, str) or (content is None and may_be_missing):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise UsageError(
            "the content of a message is not text", hint=_HINT, message=place, found=type(content).__name__
        )
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise UsageError(
                "a part of a message is not text",
                "only text can be read",
                'a part looks like {"type": "text", "text": "Hello"}',
                message=place,
                type=str(kind)[:64],
            )
        texts.append(part["text"])
    return "".join(texts)


def _tool_calls(calls: Any, place: int) -> list[dict[str, Any]]:
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise UsageError("tool_calls is not a list of objects", message=place)
    return [_tool_call(dict(call)) for call in calls]


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """API clients write arguments as a JSON text; templates expect the object."""
    function = call.get("function")
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, RecursionError):
            return call
        if isinstance(arguments, dict):
            call["function"] = {**function, "arguments": arguments}
    return call
