"""Bodies of the Responses API as bodies of chat completions."""

from __future__ import annotations

from typing import Any

import pytest

from apportion.core.errors import Unsupported, UsageError
from apportion.serve.dialects.responses_request import blamed, chat_body


def messages(items: Any, **more: Any) -> Any:
    return chat_body({"input": items, **more})["messages"]


def test_a_text_is_a_message() -> None:
    assert messages("Hello") == [{"role": "user", "content": "Hello"}]
    assert messages("Hello", instructions="Be brief")[0] == {"role": "system", "content": "Be brief"}


def test_what_was_thought_said_and_called_in_one_turn_is_one_message() -> None:
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "See"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "y"}]},
    ]
    user, assistant, first, second = messages(items)
    assert user == {"role": "user", "content": "ab"}
    assert (assistant["reasoning_content"], assistant["content"]) == ("hm", "See")
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["f", "g"]
    assert (first["tool_call_id"], first["content"]) == ("1", "x")
    assert (second["tool_call_id"], second["content"]) == ("2", "y")


def test_a_message_after_calls_is_a_turn_of_its_own() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    said = {"type": "message", "role": "assistant", "content": "then"}
    assert [message["role"] for message in messages([call, said])] == ["assistant", "assistant"]


def test_fields_get_the_names_that_chats_have() -> None:
    body = chat_body(
        {
            "input": "a",
            "max_output_tokens": 5,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
            "reasoning": {"effort": "low"},
            "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
            "include": ["message.output_text.logprobs"],
            "top_k": 5,
        }
    )
    assert (body["max_completion_tokens"], body["reasoning_effort"], body["top_k"]) == (5, "low", 5)
    assert body["response_format"]["json_schema"] == {"name": "n", "schema": {}, "strict": True}
    assert body["tools"][0] == {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert body["tools"][1] == {"type": "web_search"}, "for whoever reads tools to refuse"
    assert (body["logprobs"], body["top_logprobs"]) == (True, 0)


@pytest.mark.parametrize(
    "items",
    [
        None,
        [],
        [5],
        5,
        [{"type": "function_call"}],
        [{"role": "user", "content": 5}],
        [{"type": "function_call_output", "call_id": "1"}],
    ],
)
def test_what_is_no_input_is_refused(items: Any) -> None:
    with pytest.raises(UsageError) as caught:
        messages(items)
    assert caught.value.param is not None
    assert caught.value.param.startswith("input")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "x"},
        {"type": "computer_call"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
    ],
)
def test_what_cannot_be_had_is_refused(item: Any) -> None:
    with pytest.raises(Unsupported):
        messages([item])


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "background", "prompt"])
def test_nothing_is_kept_between_requests(name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        chat_body({"input": "a", name: "x"})
    assert caught.value.param == name


def test_errors_name_fields_as_they_are_called_here() -> None:
    assert blamed("max_completion_tokens") == "max_output_tokens"
    assert blamed("messages.0.content") == "input", "items and messages are not counted alike"
    assert blamed("temperature") == "temperature"
