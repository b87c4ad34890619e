"""Every field of every route: what is accepted, and what is refused, by name."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from apportion.engine.openai import FIELDS
from apportion.serve.errors import json_response

HELLO = [{"role": "user", "content": "Hello"}]
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
LEAST: dict[str, dict[str, Any]] = {
    CHAT: {"model": "tiny", "messages": HELLO, "max_tokens": 2},
    TEXT: {"model": "tiny", "prompt": "Once", "max_tokens": 2},
    RESPONSES: {"model": "tiny", "input": "Hello", "max_output_tokens": 2},
    MESSAGES: {"model": "tiny", "messages": HELLO, "max_tokens": 2},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "integer"}}}

# What both chats and completions take, by field.
SAMPLED: dict[str, list[Any]] = {
    "model": ["tiny", "parrot", None],
    "stream": [False, None],
    "stream_options": [{"include_usage": True}, {}, {"include_usage": False, "include_obfuscation": True}],
    "max_tokens": [1, 5],
    "temperature": [0, 0.0, 1, 2.5],
    "top_p": [1, 0.1],
    "top_k": [0, 1, 100000],
    "min_p": [0, 0.5, 1],
    "typical_p": [0.5],
    "seed": [0, 2**63, 2**64 - 1],
    "stop": ["x", ["x", "y"], [], None],
    "frequency_penalty": [-2, 0.5, 2],
    "presence_penalty": [-2, 0.5, 2],
    "repetition_penalty": [0.5, 1.3],
    "penalty_window": [0, 64],
    "logit_bias": [{}, {"5": -100}, {"5": 1.5, "6": 100}],
    "ignore_eos": [True, False],
    "n": [1, 8],
    "response_format": [{"type": "text"}, {"type": "json_object"}, SCHEMA],
    "regex": ["[ab]+"],
    "grammar": ['start: "a"'],
    "choice": [["a", "b"]],
    "guided_json": [{"type": "integer"}],
    "guided_regex": ["[ab]+"],
    "guided_grammar": ['start: "a"'],
    "guided_choice": [["a", "b"]],
    "cache_salt": ["", "mine"],
    "priority": [-100, 0, 100],
    "user": ["me"],
    "metadata": [{"a": "b"}],
    "store": [True, False],
    "service_tier": ["auto"],
    "x_apportion": [True, False],
}
ACCEPTED: dict[str, dict[str, list[Any]]] = {
    CHAT: SAMPLED
    | {
        "max_completion_tokens": [1],
        "logprobs": [True, False],
        "tools": [[], [TOOL]],
        "tool_choice": ["auto", "none"],
        "parallel_tool_calls": [True, False],
        "reasoning_effort": ["none", "low", "high"],
        "chat_template_kwargs": [{}, {"enable_thinking": False}],
        "modalities": [["text"]],
        "safety_identifier": ["a"],
        "prompt_cache_key": ["a"],
        "prediction": [{"type": "content", "content": "x"}],
        "verbosity": ["low"],
    },
    TEXT: SAMPLED | {"logprobs": [0, 5], "echo": [True, False], "best_of": [1], "suffix": [""]},
    RESPONSES: {
        "instructions": ["Be brief"],
        "temperature": [0, 1],
        "top_p": [0.5],
        "top_logprobs": [2],
        "tools": [[], [{"type": "function", "name": "f", "parameters": {"type": "object"}}]],
        "tool_choice": ["auto", "none"],
        "parallel_tool_calls": [True],
        "text": [{}, {"format": {"type": "text"}}, {"format": {"type": "json_object"}}],
        "reasoning": [{"effort": "low"}, {}],
        "include": [["message.output_text.logprobs"], ["reasoning.encrypted_content"]],
        "metadata": [{"a": "b"}],
        "store": [True],
        "truncation": ["disabled", "auto"],
        "user": ["me"],
        "background": [False],
        "previous_response_id": [None],
        "stream_options": [{"include_obfuscation": False}],
        "seed": [1],
        "stop": [["x"]],
    },
    MESSAGES: {
        "system": ["Be brief"],
        "temperature": [0, 1],
        "top_p": [0.5],
        "top_k": [5],
        "stop_sequences": [["x"], []],
        "metadata": [{"user_id": "me"}],
        "service_tier": ["auto"],
        "thinking": [{"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}],
        "tools": [[], [{"name": "f", "input_schema": {"type": "object"}}]],
        "tool_choice": [{"type": "auto"}, {"type": "none"}],
        "cache_control": [{"type": "ephemeral"}],
        "output_config": [{"format": {"type": "json_schema", "schema": {"type": "integer"}}}],
    },
}
WRONG: dict[str, list[Any]] = {
    "model": [3, [], {}],
    "stream": ["yes", 1],
    "stream_options": [True, [], {"include_usage": 1}],
    "max_tokens": [0, -1, 1.5, "5", 10**400],
    "temperature": [-1, "hot", True, 10**400],
    "top_p": [0, 1.1, -1],
    "top_k": [-1, 1.5, 10**30],
    "min_p": [-0.1, 2],
    "seed": [-1, 2**64, 1.5],
    "stop": [[""], 5, [5], ["x"] * 17, "x" * 257],
    "frequency_penalty": ["a", 10**400],
    "repetition_penalty": [0, -1],
    "logit_bias": [[], {"a": 1}, {"5": "x"}, {"-1": 1}, {str(i): 0 for i in range(1025)}],
    "n": [0, 9, 1.5, True],
    "response_format": ["json", {}, {"type": "xml"}, {"type": "json_schema"}],
    "regex": ["(", "a" * 4097, 5],
    "grammar": ["nonsense :::", 5],
    "choice": [[], [""], "a", [5]],
    "cache_salt": [5, "x" * 257],
    "priority": [101, 0.5, "high"],
    "x_apportion": ["yes"],
}
ALSO_WRONG: dict[str, dict[str, list[Any]]] = {
    CHAT: {
        "messages": [[], "Hello", [5], [{}], [{"role": "user"}], [{"role": "user", "content": 5}], None],
        "logprobs": [3],
        "top_logprobs": [3, -1],
        "tools": [5, [5], [{"type": "function"}], [{"type": "web"}], [TOOL, TOOL], [TOOL] * 129],
        "tool_choice": ["required", "sometimes", {"type": "function", "function": {"name": "g"}}, 5],
        "parallel_tool_calls": ["yes"],
        "reasoning_effort": ["much", 5],
        "chat_template_kwargs": [{"messages": []}, {"x": 1}, []],
        "functions": [[{"name": "f"}]],
        "modalities": [["audio"]],
        "audio": [{"voice": "alloy"}],
    },
    TEXT: {
        "prompt": [None, [], 5, {}, [[]], [5.5], [-1], ["a", 5], [10**30], [2**31 - 1]],
        "logprobs": [-1, 21, True],
        "best_of": [2],
        "suffix": ["x"],
        "echo": ["yes"],
    },
}


def cases(table: dict[str, dict[str, list[Any]]]) -> list[Any]:
    return [
        pytest.param(url, field, value, id=f"{url.rsplit('/', 1)[1]}-{field}-{str(value)[:24]}")
        for url, fields in table.items()
        for field, values in fields.items()
        for value in values
    ]


@pytest.mark.parametrize(("url", "field", "value"), cases(ACCEPTED))
def test_a_field_is_accepted(http: httpx.Client, url: str, field: str, value: Any) -> None:
    answer = http.post(url, json=LEAST[url] | {field: value})
    assert answer.status_code == 200, answer.text
    assert "x-apportion-warnings" not in answer.headers


@pytest.mark.parametrize(
    ("url", "field", "value"), cases({url: WRONG | own for url, own in ALSO_WRONG.items()})
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    http: httpx.Client, url: str, field: str, value: Any
) -> None:
    answer = http.post(url, json=LEAST[url] | {field: value})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    blamed = error["param"] or field
    assert field in blamed or (field == "max_tokens" and error["code"] == "context_length_exceeded")


@pytest.mark.parametrize("url", LEAST)
def test_unknown_fields_are_ignored_with_a_warning(http: httpx.Client, url: str) -> None:
    body = LEAST[url] | {"frobnicate": {"x": 1}, "wat\r\nInjected: yes": 5}
    answer = http.post(url, json=body)
    assert answer.status_code == 200
    assert "'frobnicate'" in answer.headers["x-apportion-warnings"]
    assert "injected" not in answer.headers


def test_the_table_of_fields_names_every_field_that_is_tested_here() -> None:
    chat = {name for name, field in FIELDS.items() if "chat" in field.on}
    text = {name for name, field in FIELDS.items() if "text" in field.on}
    assert chat >= (ACCEPTED[CHAT].keys() | ALSO_WRONG[CHAT].keys() | WRONG.keys())
    assert text >= (ACCEPTED[TEXT].keys() | ALSO_WRONG[TEXT].keys() | WRONG.keys())
    untested = chat - ACCEPTED[CHAT].keys() - ALSO_WRONG[CHAT].keys() - WRONG.keys()
    assert untested <= {"function_call", "web_search_options", "prompt_cache_retention"}


def test_timings_come_to_who_asks(http: httpx.Client) -> None:
    for url in LEAST:
        answer = http.post(url, json=LEAST[url] | {"x_apportion": True}).json()
        assert answer["x_apportion"]["timings"]["ttft_s"] > 0


def test_prefixes_of_one_salt_are_not_shared_with_another(http: httpx.Client) -> None:
    def cached(salt: str) -> int:
        body = {"model": "tiny", "prompt": "A prompt of some length that is salted. " * 2, "max_tokens": 1}
        usage = http.post(TEXT, json=body | {"cache_salt": salt}).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached("one") == 0
    assert cached("one") > 0
    assert cached("two") == 0


def test_an_error_may_hold_a_number_beyond_64_bits() -> None:
    answer = json_response({"number": 10**30})
    assert json.loads(bytes(answer.body)) == {"number": 10**30}
