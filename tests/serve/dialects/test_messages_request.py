"""Bodies of the Messages API as bodies of chat completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apportion.core.errors import Unsupported, UsageError
from apportion.serve.dialects.messages_request import chat_body


def read(content: Any = "Hello", role: str = "user", **more: Any) -> dict[str, Any]:
    return chat_body(
        {"model": "m", "max_tokens": 5, "messages": [{"role": role, "content": content}], **more}
    )


def test_a_message_and_a_system_prompt() -> None:
    body = read(system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello"},
    ]
    assert body["max_tokens"] == 5


def test_blocks_of_an_assistant_are_one_message() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "See"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": "ü"}},
    ]
    (message,) = read(blocks, "assistant")["messages"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "See")
    (call,) = message["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("1", "f")
    assert json.loads(call["function"]["arguments"]) == {"a": "ü"}


def test_results_come_before_what_is_said_with_them() -> None:
    blocks = [
        {"type": "tool_result", "tool_use_id": "1", "content": "x"},
        {"type": "tool_result", "tool_use_id": "2"},
        {"type": "text", "text": "And now?"},
    ]
    messages = read(blocks)["messages"]
    assert [message["role"] for message in messages] == ["tool", "tool", "user"]
    assert [message["content"] for message in messages] == ["x", "", "And now?"]
    assert len(read(blocks[:1])["messages"]) == 1, "nothing was said with it"


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_choices_of_tools(choice: Any, wanted: Any) -> None:
    tools = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    body = read(tools=tools, tool_choice=choice)
    assert body["tool_choice"] == wanted
    assert body["tools"][0]["function"] == {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert read(tool_choice={**choice, "disable_parallel_tool_use": True})["parallel_tool_calls"] is False


def test_thinking_is_switched_by_who_asks() -> None:
    assert read()["chat_template_kwargs"]["enable_thinking"] is False
    asked = read(
        thinking={"type": "enabled", "budget_tokens": 1024}, chat_template_kwargs={"low_effort": True}
    )
    assert asked["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True, "low_effort": True}


def test_a_schema_is_a_response_format() -> None:
    given = {"type": "json_schema", "schema": {"type": "integer"}}
    for body in (read(output_format=given), read(output_config={"format": given})):
        assert body["response_format"]["json_schema"]["schema"] == {"type": "integer"}
    with pytest.raises(UsageError):
        read(output_format={"type": "xml"})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image"},
        {"type": "document"},
        {},
        {"type": "text"},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image"}]},
    ],
)
def test_what_is_no_text_is_refused(block: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        read([block])
    assert caught.value.param == "messages.0.content.0"


@pytest.mark.parametrize(
    "block", [{"type": "tool_use", "name": "f"}, {"type": "tool_result", "content": "x"}]
)
def test_calls_and_results_have_names(block: Any) -> None:
    with pytest.raises(UsageError):
        read([block])


def test_tools_that_servers_run_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        read(tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert caught.value.param == "tools.0"
