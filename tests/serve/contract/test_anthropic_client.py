"""The unmodified `anthropic` package against the server."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import pytest
from tests.serve.running import Running

TOOLS: Any = [
    {
        "name": "weather",
        "description": "The weather of a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
NO_SPACE = {"logit_bias": {str(ord(space)): -100 for space in "\t\n\r "}}


def says(text: Any) -> Any:
    return [{"role": "user", "content": text}]


def asked(text: Any, **more: Any) -> Any:
    return {"model": "parrot", "max_tokens": 100, "messages": says(text), **more}


def test_a_message_is_answered(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**asked("How are you?"))
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == "How are you?"
    assert (message.role, message.type, message.stop_reason) == ("assistant", "message", "end_turn")
    assert message.usage.output_tokens == 12


@pytest.mark.parametrize(
    "system", ["Be brief", [{"type": "text", "text": "Be"}, {"type": "text", "text": " brief"}]]
)
def test_a_system_prompt_is_read(claude: anthropic.Anthropic, system: Any) -> None:
    without = claude.messages.count_tokens(model="parrot", messages=says("Hello"))
    with_it = claude.messages.count_tokens(model="parrot", messages=says("Hello"), system=system)
    assert with_it.input_tokens == without.input_tokens + len("[system]Be brief\n")


def test_blocks_of_text_are_joined(claude: anthropic.Anthropic) -> None:
    blocks = [
        {"type": "text", "text": "Hello "},
        {"type": "text", "text": "you", "cache_control": {"type": "ephemeral"}},
    ]
    assert claude.messages.create(**asked(blocks)).content[0].text == "Hello you"


def test_an_answer_is_as_long_as_it_may_be(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**asked("Hello you") | {"max_tokens": 5})
    assert (message.content[0].text, message.stop_reason) == ("Hello", "max_tokens")


def test_the_string_that_ended_an_answer_is_told(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**asked("Hello you there", stop_sequences=["there", "you"]))
    assert (message.content[0].text, message.stop_reason) == ("Hello ", "stop_sequence")
    assert message.stop_sequence == "you"


def test_a_message_is_streamed(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(**asked("Hello you")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == "Hello you"
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 9
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 0


def test_the_events_of_a_stream_come_in_order(claude: anthropic.Anthropic) -> None:
    kinds = [event.type for event in claude.messages.create(**asked("Hi", stream=True))]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    inner = [kind for kind in kinds[1:-2] if kind != "ping"]
    assert inner[0] == "content_block_start"
    assert inner[-1] == "content_block_stop"
    assert set(inner[1:-1]) == {"content_block_delta"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_used_and_its_result_read(claude: anthropic.Anthropic, stream: bool) -> None:
    if stream:
        with claude.messages.stream(**asked(f"Let me see.{CALL}", tools=TOOLS)) as events:
            message = events.get_final_message()
    else:
        message = claude.messages.create(**asked(f"Let me see.{CALL}", tools=TOOLS))
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.stop_reason == "tool_use"
    use = message.content[1]
    assert (use.name, use.input) == ("weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "rain"}]}
    messages = [*says(CALL), {"role": "assistant", "content": message.content}, *says([result])]
    answer = claude.messages.create(model="parrot", max_tokens=100, messages=messages, tools=TOOLS)
    assert answer.content[0].text == "rain"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_that_has_to_be_used_is_used(claude: anthropic.Anthropic, choice: Any) -> None:
    choice = {**choice, "disable_parallel_tool_use": True}
    body = asked("Hello", tools=TOOLS, tool_choice=choice, extra_body=NO_SPACE) | {
        "model": "tiny",
        "max_tokens": 120,
    }
    message = claude.messages.create(**body)
    assert [block.type for block in message.content] == ["tool_use"]
    assert "city" in message.content[0].input


def test_no_tool_is_used_where_none_may_be(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**asked("plain", tools=TOOLS, tool_choice={"type": "none"}))
    assert message.content[0].text == "plain"


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_told_to_who_wants_them(claude: anthropic.Anthropic, stream: bool) -> None:
    body = asked("<think>hm</think>Yes")
    thinking = {"type": "enabled", "budget_tokens": 1024}

    def kinds(**more: Any) -> list[str]:
        if not stream:
            return [block.type for block in claude.messages.create(**body, **more).content]
        with claude.messages.stream(**body, **more) as events:
            return [block.type for block in events.get_final_message().content]

    assert kinds(thinking=thinking) == ["thinking", "text"]
    assert kinds() == ["text"]


def test_who_wants_no_thoughts_switches_thinking_off(claude: anthropic.Anthropic) -> None:
    thinks = claude.messages.count_tokens(
        model="parrot", messages=says("Hello"), thinking={"type": "enabled", "budget_tokens": 1024}
    )
    quick = claude.messages.count_tokens(model="parrot", messages=says("Hello"))
    assert quick.input_tokens == thinks.input_tokens + len("[quick]\n")


def test_tokens_are_counted_as_they_are_read(claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="parrot", messages=says("Hello"), tools=TOOLS)
    usage = claude.messages.create(**asked("Hello", tools=TOOLS)).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_an_answer_of_a_schema(claude: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    body = asked("Hello") | {"model": "tiny", "extra_body": NO_SPACE}
    message = claude.messages.create(
        **body, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert message.content[0].text in ('{"a":true}', '{"a":false}')


def test_sampling_is_as_asked(claude: anthropic.Anthropic) -> None:
    body = asked("Hello") | {"model": "tiny", "max_tokens": 6, "extra_body": {"temperature": 0.5, "top_k": 1}}
    assert claude.messages.create(**body).content == claude.messages.create(**body).content


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {"type": "nothing"},
    ],
)
def test_what_is_no_text_is_refused(claude: anthropic.Anthropic, block: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**asked([block]))
    error: Any = caught.value.body
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"


def test_errors_are_those_that_the_client_knows(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**asked("Hello") | {"model": "nobody"})
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(**asked("Hello") | {"max_tokens": 0})
    with pytest.raises(anthropic.BadRequestError, match="2048"):
        claude.messages.create(**asked("long " * 2000))
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(
            **asked("Hello", tools=[{"type": "web_search_20250305", "name": "web_search"}])
        )


def test_the_asynchronous_client_asks_many_at_once(server: Running) -> None:
    async def ask_all() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="unused") as client:
            answers = await asyncio.gather(
                *(client.messages.create(**asked(f"Number {i}")) for i in range(8))
            )
            return [answer.content[0].text for answer in answers]

    assert asyncio.run(ask_all()) == [f"Number {i}" for i in range(8)]
