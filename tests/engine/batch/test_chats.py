"""Chats in a batch: tools, forms and reasoning as a server answers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.engine.batch.conftest import Write, answers
from tests.engine.conftest import TEMPLATE, MakeLLM

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Bern"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def chat(name: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "any", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, **fields}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def message(path: Path, name: str) -> tuple[dict[str, Any], str]:
    (choice,) = answers(path)[name]["response"]["body"]["choices"]
    return choice["message"], choice["finish_reason"]


def test_a_required_call_is_answered_by_a_call_and_a_free_answer_by_text(
    make_llm: MakeLLM, write: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    required = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    lines = [chat("called", **required), chat("free", max_tokens=5)]
    with make_llm(template=TEMPLATE) as llm:
        llm.batch(write(*lines), out)
    called, reason = message(out, "called")
    assert reason == "tool_calls"
    assert called["content"] is None
    (call,) = called["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Bern")
    free, reason = message(out, "free")
    assert reason == "length"
    assert len(free["content"]) == 5
    assert "tool_calls" not in free


def test_reasoning_that_the_prompt_opens_is_split_off(
    make_llm: MakeLLM, write: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    template = TEMPLATE + "{% if enable_thinking %}<think>\n{% else %}<think></think>{% endif %}"
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    with make_llm(template=template) as llm:
        llm.batch(write(chat("thinks", max_tokens=4, **thinking), chat("answers", max_tokens=4)), out)
    thinks, _ = message(out, "thinks")
    assert thinks["content"] == ""
    assert len(thinks["reasoning_content"]) == 4
    assert "reasoning_content" not in message(out, "answers")[0]
