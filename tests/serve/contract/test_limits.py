"""Each limit of what one body may ask for: at it, one beyond it, and ten times as much."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from apportion.serve import Limits

CHAT, TEXT, EMBEDDINGS, TEMPLATE = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/apply-template",
)
LIMITS = Limits()


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {
        "model": "parrot",
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": 1,
        **fields,
    }


def text(**fields: Any) -> tuple[str, dict[str, Any]]:
    return TEXT, {"model": "tiny", "prompt": "a", "max_tokens": 1, **fields}


def tool(place: int, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"f{place}", "parameters": parameters}}


def schema(nbytes: int) -> dict[str, Any]:
    """A schema whose compact text has so many bytes."""
    bare = len(json.dumps({"type": "integer", "title": ""}, separators=(",", ":")))
    return {"type": "integer", "title": "x" * (nbytes - bare)}


def nested(depth: int) -> dict[str, Any]:
    """A schema of so many objects in each other."""
    found: dict[str, Any] = {"type": "integer"} if depth % 2 else {"enum": [1]}
    for _ in range((depth - 1) // 2):
        found = {"type": "object", "properties": {"a": found}}
    return found


def formed(value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": value}}


Make = Callable[[int], tuple[str, dict[str, Any]]]
CASES: dict[str, tuple[int, str, Make]] = {
    "messages": (
        LIMITS.num_messages,
        "messages",
        lambda n: (TEMPLATE, {"model": "parrot", "messages": [{"role": "user", "content": "a"}] * n}),
    ),
    "tools": (LIMITS.num_tools, "tools", lambda n: chat(tools=[tool(i) for i in range(n)])),
    "choices of a chat": (LIMITS.num_choices, "n", lambda n: chat(n=n)),
    "choices of a text": (LIMITS.num_choices, "n", lambda n: text(n=n)),
    "prompts": (LIMITS.num_prompts, "prompt", lambda n: text(prompt=["a"] * n)),
    "inputs": (LIMITS.num_inputs, "input", lambda n: (EMBEDDINGS, {"model": "tiny", "input": [[97]] * n})),
    "stop strings": (LIMITS.num_stop, "stop", lambda n: text(stop=[f"s{i}" for i in range(n)])),
    "a stop string": (LIMITS.stop_nbytes, "stop", lambda n: text(stop="x" * n)),
    "alternatives of a chat": (
        LIMITS.top_logprobs,
        "top_logprobs",
        lambda n: chat(logprobs=True, top_logprobs=n),
    ),
    "alternatives of a text": (LIMITS.top_logprobs, "logprobs", lambda n: text(logprobs=n)),
    "biases": (LIMITS.logit_bias, "logit_bias", lambda n: text(logit_bias={str(i): 0 for i in range(n)})),
    "a schema": (LIMITS.schema_nbytes, "response_format", lambda n: chat(response_format=formed(schema(n)))),
    "depth of a schema": (
        LIMITS.schema_depth,
        "response_format",
        lambda n: chat(response_format=formed(nested(n))),
    ),
    "a regular expression": (LIMITS.regex_nbytes, "regex", lambda n: text(regex="a" * n)),
    "parameters of a tool": (
        LIMITS.schema_nbytes,
        "tools.0.function.parameters",
        lambda n: chat(tools=[tool(0, schema(n))]),
    ),
    "depth of a tool": (
        LIMITS.schema_depth,
        "tools.0.function.parameters",
        lambda n: chat(tools=[tool(0, nested(n))]),
    ),
    "a model's name": (LIMITS.model_name_nbytes, "model", lambda n: text(model="m" * n)),
    "a salt": (LIMITS.model_name_nbytes, "cache_salt", lambda n: text(cache_salt="s" * n)),
    "a priority": (100, "priority", lambda n: text(priority=n)),
}


@pytest.mark.parametrize("name", CASES)
def test_as_much_as_is_allowed_is_not_too_much(http: httpx.Client, name: str) -> None:
    limit, _, make = CASES[name]
    url, body = make(limit)
    answer = http.post(url, json=body, timeout=60)
    assert answer.status_code == 200 or answer.json()["error"]["code"] in (
        "context_length_exceeded",  # a tiny model's is short
        "does_not_fit",
        "model_not_found",
        "usage" if name == "biases" else "",  # a tiny model has fewer tokens
    ), answer.text[:300]


@pytest.mark.parametrize("times", [1, 10], ids=["one more", "ten times"])
@pytest.mark.parametrize("name", CASES)
def test_more_is_refused_by_its_name_and_with_the_limit(http: httpx.Client, name: str, times: int) -> None:
    limit, param, make = CASES[name]
    url, body = make(limit + 1 if times == 1 else limit * 10)
    answer = http.post(url, json=body, timeout=60)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] in ("limit_exceeded", "usage")
    if times == 1 or "depth" not in name:
        assert error["param"] == param
        assert str(limit) in error["message"]


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "fits"),
    [(100, 924, True), (100, 925, False), (1023, 1, True), (1024, 1, False)],
)
def test_the_context_is_full_to_its_last_position(
    http: httpx.Client, prompt_tokens: int, max_tokens: int, fits: bool
) -> None:
    body = {
        "model": "tiny",
        "prompt": [97] * prompt_tokens,
        "max_tokens": max_tokens,
        "stop": ["a", "e", "t", " "],
    }
    answer = http.post(TEXT, json=body, timeout=60)
    assert answer.status_code == (200 if fits else 400)
    if not fits:
        numbers = answer.json()["error"]["details"]["numbers"]
        assert numbers == {"prompt_tokens": prompt_tokens, "max_tokens": max_tokens, "ctx": 1024}
