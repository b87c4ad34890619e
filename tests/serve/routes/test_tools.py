"""Calls of tools over HTTP: whole and streamed answers are the same, and fit their schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.models import tiny
from tests.serve.running import config_for, running

TEMPLATES = {
    "generic_json": tiny.CHAT_TEMPLATE,
    "hermes": "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}" + tiny.CHAT_TEMPLATE,
    "reasoning": tiny.CHAT_TEMPLATE + "{% if enable_thinking %}<think>\n{% else %}<think></think>{% endif %}",
}
CITY = {"type": "string", "enum": ["Oslo", "Bern"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": CITY},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
ASK = {
    "messages": [{"role": "user", "content": "How is the weather?"}],
    "tools": [WEATHER, TIME],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "temperature": 0,
    "max_tokens": 150,
}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module", params=TEMPLATES)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        longer = replace(tiny.tiny_config("llama"), context_length=2048)
        patch.setattr(tiny, "tiny_config", lambda name: longer)
        patch.setattr(tiny, "CHAT_TEMPLATE", TEMPLATES[request.param])
        config = config_for(tmp_path_factory.mktemp("models"))
    with running(config) as server, httpx.Client(base_url=server.url, timeout=60) as one:
        yield one


def answered(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(CHAT, json=body)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    assert isinstance(choice, dict)
    return choice


def streamed(client: httpx.Client, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The message that the deltas add up to, and why it ended."""
    message: dict[str, Any] = {"content": "", "tool_calls": []}
    reason = ""
    with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                reason = choice["finish_reason"] or reason
                message["content"] += choice["delta"].get("content") or ""
                for call in choice["delta"].get("tool_calls", ()):
                    if "id" in call:
                        assert call["index"] == len(message["tool_calls"])
                        message["tool_calls"].append(call)
                    else:
                        arguments = call["function"]["arguments"]
                        message["tool_calls"][call["index"]]["function"]["arguments"] += arguments
    return message, reason


def check_call(call: dict[str, Any]) -> str:
    arguments = json.loads(call["function"]["arguments"])
    if call["function"]["name"] == "weather":
        assert arguments["city"] in CITY["enum"]
    else:
        assert arguments == {}
    assert call["type"] == "function"
    assert call["id"]
    return str(call["function"]["name"])


def test_a_required_call_comes_whole_and_streamed_the_same(client: httpx.Client) -> None:
    choice = answered(client, ASK)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    check_call(call)
    message, reason = streamed(client, ASK)
    assert reason == "tool_calls"
    assert message["content"] == ""
    assert [one["function"] for one in message["tool_calls"]] == [call["function"]]


@pytest.mark.parametrize("name", ["weather", "time"])
def test_a_named_tool_is_called(client: httpx.Client, name: str) -> None:
    named = {"type": "function", "function": {"name": name}}
    choice = answered(client, {**ASK, "tool_choice": named})
    (call,) = choice["message"]["tool_calls"]
    assert check_call(call) == name


def test_every_choice_has_calls_of_its_own(client: httpx.Client) -> None:
    response = client.post(CHAT, json={**ASK, "n": 3, "temperature": 1.0, "seed": 7})
    choices = response.json()["choices"]
    ids = [call["id"] for choice in choices for call in choice["message"]["tool_calls"]]
    assert len(choices) == 3
    assert len(set(ids)) == len(ids) == 3


def test_a_call_and_its_result_are_taken_back(client: httpx.Client) -> None:
    choice = answered(client, ASK)
    call = choice["message"]["tool_calls"][0]
    result = {"role": "tool", "tool_call_id": call["id"], "content": [{"type": "text", "text": "Rain."}]}
    messages = [*ASK["messages"], choice["message"], result]  # type: ignore[misc]
    assert answered(client, {**ASK, "messages": messages, "tool_choice": "auto", "max_tokens": 4})


def test_without_a_choice_of_tools_the_answer_is_free(client: httpx.Client) -> None:
    choice = answered(client, {**ASK, "tool_choice": "none", "max_tokens": 8})
    assert "tool_calls" not in choice["message"]


def test_a_schema_that_cannot_be_held_to_is_the_callers_mistake(client: httpx.Client) -> None:
    odd = {"name": "odd", "parameters": {"not": {}}, "strict": True}
    response = client.post(CHAT, json={**ASK, "tools": [{"type": "function", "function": odd}]})
    assert response.status_code == 400
    assert answered(client, {**ASK, "max_tokens": 150})


def test_thinking_is_switched_by_the_template_and_split_off(client: httpx.Client) -> None:
    thinks = {"chat_template_kwargs": {"enable_thinking": True}, "tool_choice": "none", "max_tokens": 8}
    message = answered(client, {**ASK, **thinks})["message"]
    if "reasoning_content" in message:  # the template that knows of it
        assert message["content"] == ""
    response = client.post(CHAT, json={**ASK, "chat_template_kwargs": {"enable_thinkin": True}})
    assert response.status_code == 400
