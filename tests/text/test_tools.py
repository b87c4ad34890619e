from __future__ import annotations

from typing import Any

import pytest

from apportion.core.errors import UsageError
from apportion.text.tools import Tool, checked_tools
from apportion.text.tools_told import knows_tools, told

ADD = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}},
}


def test_a_tool_is_told_as_templates_expect_it_and_without_what_only_we_read() -> None:
    (tool,) = checked_tools([{**ADD, "function": {**ADD["function"], "strict": True}}])  # type: ignore[dict-item]
    assert tool.strict
    assert tool.told() == ADD


def test_what_a_function_may_leave_out_is_filled_in() -> None:
    (tool,) = checked_tools([{"function": {"name": "now"}}])
    assert tool == Tool("now", "", {"type": "object", "properties": {}}, False)


@pytest.mark.parametrize(
    "tools",
    [
        "add",
        {"name": "add"},
        ["add"],
        [{}],
        [{"type": "web_search"}],
        [{"type": "function", "function": {}}],
        [{"type": "function", "function": {"name": ""}}],
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "function", "function": {"name": "a" * 129}}],
        [{"type": "function", "function": {"name": "a", "parameters": []}}],
        [{"type": "function", "function": {"name": "a", "strict": "yes"}}],
        [{"type": "function", "function": {"name": "a", "description": 3}}],
        [ADD, ADD],
    ],
)
def test_a_malformed_tool_is_a_usage_error(tools: Any) -> None:
    with pytest.raises(UsageError):
        checked_tools(tools)


CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "Well.", "tool_calls": [CALL, CALL]},
    {"role": "tool", "tool_call_id": "1", "name": "add", "content": "2"},
    {"role": "tool", "tool_call_id": "2", "content": "2"},
    {"role": "user", "content": "So?"},
]


def test_calls_and_results_become_plain_turns() -> None:
    messages = told(CHAT, (), "{{ messages }}")
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    one = '{"name": "add", "arguments": {"a": 1}}'
    assert messages[1]["content"] == f"Well.\n[{one}, {one}]"
    assert messages[2]["content"] == "add returned: 2\nthe function returned: 2\nSo?"


@pytest.mark.parametrize(
    ("template", "first", "roles"),
    [
        ("{{ 'system' }}", {"role": "system", "content": "Be brief."}, ["system", "user"]),
        ("{{ 'system' }}", None, ["system", "user"]),
        ("{{ messages }}", None, ["user"]),
        ("{{ raise_exception('System role not supported') if 'system' }}", None, ["user"]),
    ],
)
def test_tools_are_told_of_where_the_template_takes_it(
    template: str, first: dict[str, Any] | None, roles: list[str]
) -> None:
    chat = [*([first] if first else []), {"role": "user", "content": "1 + 1?"}]
    messages = told(chat, [Tool("add", "Adds.")], template)
    assert [message["role"] for message in messages] == roles
    assert '"name": "add"' in messages[0]["content"]
    assert messages[-1]["content"].endswith("1 + 1?")


def test_a_template_knows_tools_by_their_name() -> None:
    assert knows_tools("{% if tools %}")
    assert not knows_tools("{% for message in messages %}{{ message.toolset }}")
