"""What every event of every stream looks like: shapes that are kept in files beside this one.

`WRITE_SNAPSHOTS=1` writes them anew; what changed then shows in the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
from tests.serve.contract.events import events_of, shape

from apportion.serve.schemas.chat import ChatChunk, ChatCompletion
from apportion.serve.schemas.completions import TextChunk, TextCompletion
from apportion.serve.schemas.messages import Message, MessagesEvent
from apportion.serve.schemas.responses import Response, ResponseEvent

SNAPSHOTS = Path(__file__).parent / "snapshots"
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
THOUGHT = "<think>hm</think>Yes"
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
WHOLE: dict[str, type[pydantic.BaseModel]] = {
    CHAT: ChatCompletion,
    TEXT: TextCompletion,
    RESPONSES: Response,
    MESSAGES: Message,
}
PIECES: dict[str, type[pydantic.BaseModel]] = {
    CHAT: ChatChunk,
    TEXT: TextChunk,
    RESPONSES: ResponseEvent,
    MESSAGES: MessagesEvent,
}


def chat(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "parrot", "messages": [{"role": "user", "content": text}], **more}


def response(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return RESPONSES, {"model": "parrot", "input": text, **more}


def message(text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return MESSAGES, {
        "model": "parrot",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 100,
        **more,
    }


FLAT = {"type": "function", **TOOL}
NESTED = {"type": "function", "function": TOOL}
CLAUDE = {"name": "f", "input_schema": TOOL["parameters"]}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": chat("Hi"),
    "chat_usage": chat("Hi", stream_options={"include_usage": True}),
    "chat_length": chat("Hi", max_tokens=1),
    "chat_call": chat(CALL, tools=[NESTED]),
    "chat_two_calls": chat(f"See:{CALL}{CALL}", tools=[NESTED]),
    "chat_thought": chat(THOUGHT),
    "chat_logprobs": chat("Hi", logprobs=True, top_logprobs=1),
    "chat_stop": chat("Hi you", stop=" you"),
    "chat_two_choices": chat("Hi", n=2, max_tokens=9),
    "text": (TEXT, {"model": "tiny", "prompt": "a", "max_tokens": 2, "logit_bias": {"120": 100}}),
    "text_usage": (
        TEXT,
        {
            "model": "tiny",
            "prompt": "a",
            "max_tokens": 1,
            "logit_bias": {"120": 100},
            "stream_options": {"include_usage": True},
            "cache_salt": "usage",
        },
    ),
    "text_echo": (
        TEXT,
        {"model": "tiny", "prompt": "a", "max_tokens": 1, "echo": True, "logit_bias": {"120": 100}},
    ),
    "response": response("Hi"),
    "response_length": response("Hi", max_output_tokens=1),
    "response_call": response(f"See:{CALL}", tools=[FLAT]),
    "response_thought": response(THOUGHT),
    "response_logprobs": response("Hi", include=["message.output_text.logprobs"]),
    "message": message("Hi"),
    "message_length": message("Hi", max_tokens=1),
    "message_stop": message("Hi you", stop_sequences=[" you"]),
    "message_tool": message(f"See:{CALL}", tools=[CLAUDE]),
    "message_thought": message(THOUGHT, thinking={"type": "enabled", "budget_tokens": 1024}),
}


def unsalted(data: Any) -> Any:
    """Which tokens were found in the cache depends on the tests before."""
    text = json.dumps(data)
    for name in ("cached_tokens", "cache_read_input_tokens", "input_tokens"):
        for number in {piece.split(",")[0].split("}")[0] for piece in text.split(f'"{name}": ')[1:]}:
            text = text.replace(f'"{name}": {number}', f'"{name}": 0')
    return json.loads(text)


@pytest.mark.parametrize("name", STREAMS)
def test_the_events_of_a_stream_look_as_they_did(http: httpx.Client, name: str) -> None:
    url, body = STREAMS[name]
    events = events_of(http.post(url, json=body | {"stream": True}))
    for _, data in events:
        if data != "[DONE]":
            PIECES[url].model_validate(data)
    assert (events[-1][1] == "[DONE]") == (url in (CHAT, TEXT))
    found = [unsalted([event, shape(data)]) for event, data in events]
    path = SNAPSHOTS / f"{name}.json"
    if os.environ.get("WRITE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(path.read_text())


@pytest.mark.parametrize("name", STREAMS)
def test_the_answer_in_one_piece_is_of_its_schema_and_says_what_the_stream_says(
    http: httpx.Client, name: str
) -> None:
    url, body = STREAMS[name]
    body = {key: value for key, value in body.items() if key != "stream_options"}
    whole = http.post(url, json=body).json()
    WHOLE[url].model_validate(whole)
    events = events_of(http.post(url, json=body | {"stream": True}))
    assert said_in(url, [whole]) == said_in(url, [data for _, data in events if data != "[DONE]"])


@pytest.mark.parametrize("url", PIECES)
def test_the_openapi_document_tells_every_data_that_an_event_can_have(http: httpx.Client, url: str) -> None:
    answers = http.get("/openapi.json").json()["paths"][url]["post"]["responses"]["200"]["content"]
    data = answers["text/event-stream"]["schema"]["properties"]["data"]
    *marks, pieces = data.get("anyOf", [data])
    assert [mark["const"] for mark in marks] == (["[DONE]"] if url in (CHAT, TEXT) else [])
    assert pieces["contentSchema"] == {"$ref": f"#/components/schemas/{PIECES[url].__name__}"}


def said_in(url: str, bodies: list[Any]) -> str:
    """All that is said, thought and called, of a whole answer or of the events of a stream."""
    if url == TEXT:
        return "".join(choice["text"] for body in bodies for choice in body["choices"])
    if url == CHAT:
        choices = sorted((one for body in bodies for one in body["choices"]), key=lambda one: one["index"])
        ones = [choice.get("message") or choice["delta"] for choice in choices]
        return joined(
            *((one.get("reasoning_content"), one.get("content")) for one in ones),
            *(
                (call["function"].get("name"), call["function"].get("arguments"))
                for one in ones
                for call in one.get("tool_calls") or ()
            ),
        )
    if url == RESPONSES:
        last = bodies[-1].get("response", bodies[-1])
        if len(bodies) > 1:
            deltas = "".join(body["delta"] for body in bodies if body["type"].endswith("text.delta"))
            assert deltas == joined(
                *((part["text"],) for item in last["output"] for part in item.get("content", ()))
            )
        return joined(
            *((part["text"],) for item in last["output"] for part in item.get("content") or ()),
            *((item["name"], item["arguments"]) for item in last["output"] if "arguments" in item),
        )
    if len(bodies) == 1:
        return joined(
            *((block.get("thinking"), block.get("text")) for block in bodies[0]["content"]),
            *(
                (block["name"], json.dumps(block["input"]))
                for block in bodies[0]["content"]
                if "input" in block
            ),
        )
    deltas = [body["delta"] for body in bodies if body["type"] == "content_block_delta"]
    starts = [body["content_block"] for body in bodies if body["type"] == "content_block_start"]
    return joined(
        *((delta.get("thinking"), delta.get("text")) for delta in deltas),
        *((start.get("name"),) for start in starts),
        *((delta.get("partial_json"),) for delta in deltas),
    )


def joined(*texts: tuple[Any, ...]) -> str:
    return "".join(text for some in texts for text in some if text)
