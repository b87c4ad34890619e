from __future__ import annotations

from typing import Any

import pytest

from apportion.core.errors import UsageError
from apportion.text.messages import checked_messages, other_shapes

CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_plain_messages_stay_as_they_are() -> None:
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "Hi", "name": "Ann"}]
    assert checked_messages(messages) == messages


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert checked_messages([{"role": "user", "content": parts}])[0]["content"] == "ab"


def test_arguments_written_as_json_text_become_objects() -> None:
    message = checked_messages([{"role": "assistant", "content": None, "tool_calls": [CALL]}])[0]
    assert message["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert CALL["function"]["arguments"] == '{"a": 1}'  # type: ignore[index]  # the caller's stays untouched


@pytest.mark.parametrize("text", ["not json", "[1]", "[" * 100_000])
def test_arguments_that_are_no_json_object_stay_text(text: str) -> None:
    call = {"function": {"name": "f", "arguments": text}}
    message = checked_messages([{"role": "assistant", "tool_calls": [call]}])[0]
    assert message["tool_calls"][0]["function"]["arguments"] == text


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one"),
        ("Hi", "at least one"),
        ({"role": "user", "content": "x"}, "at least one"),
        (None, "at least one"),
        ([1], "not an object"),
        ([{"content": "x"}], "no role"),
        ([{"role": 1, "content": "x"}], "no role"),
        ([{"role": "", "content": "x"}], "no role"),
        ([{"role": "user"}], "not text"),
        ([{"role": "user", "content": None}], "not text"),
        ([{"role": "user", "content": 5}], "not text"),
        ([{"role": "user", "content": b"x"}], "not text"),
        ([{"role": "user", "content": ["x"]}], "part of a message"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "part of a message"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "part of a message"),
        ([{"role": "user", "content": "x", "contnt": "y"}], "unknown field: contnt"),
        ([{"role": "assistant", "tool_calls": "x"}], "tool_calls"),
        ([{"role": "assistant", "tool_calls": [1]}], "tool_calls"),
    ],
)
def test_malformed_messages_are_usage_errors(messages: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        checked_messages(messages)


def test_messages_with_calls_have_other_shapes_for_templates_that_want_texts() -> None:
    messages = checked_messages([{"role": "assistant", "content": None, "tool_calls": [CALL]}])
    shapes = [
        (message["content"], message["tool_calls"][0]["function"]["arguments"])
        for (message,) in other_shapes(messages)
    ]
    assert shapes == [(None, '{"a": 1}'), ("", {"a": 1}), ("", '{"a": 1}')]
    assert not list(other_shapes([{"role": "user", "content": "Hi"}]))
