"""The unmodified `openai` package against the server."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import openai
import pydantic
import pytest
from tests.serve.running import Running

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 8}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
GREEDY = {"temperature": 0}
NO_SPACE = {str(ord(space)): -100 for space in "\t\n\r "}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class City(pydantic.BaseModel):
    a: bool


# --- models ---


def test_models_are_listed(oai: openai.OpenAI) -> None:
    assert [model.id for model in oai.models.list()] == ["tiny", "parrot"]
    assert oai.models.retrieve("parrot").owned_by == "apportion"


def test_a_model_that_is_not_there_is_not_found(oai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        oai.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        oai.chat.completions.create(model="nobody", messages=HELLO)


# --- chat ---


def test_a_chat_is_answered(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(model="parrot", messages=says("How are you?"))
    choice = answer.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (
        "How are you?",
        "assistant",
        "stop",
    )
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len("How are you?")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


def test_the_same_prompt_again_is_found_in_the_cache(oai: openai.OpenAI) -> None:
    messages = says("This is a rather long message that will be asked twice.")
    first, second = (
        oai.chat.completions.create(model="tiny", messages=messages, max_tokens=2).usage for _ in range(2)
    )
    assert first is not None
    assert second is not None
    assert second.prompt_tokens_details is not None
    assert second.prompt_tokens_details.cached_tokens > 0


def test_a_chat_is_streamed(oai: openai.OpenAI) -> None:
    stream = oai.chat.completions.create(
        model="parrot", messages=says("Hello you"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello you"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9


def test_without_the_option_a_stream_tells_no_usage(oai: openai.OpenAI) -> None:
    chunks = list(oai.chat.completions.create(model="parrot", messages=HELLO, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_the_streaming_helper_accumulates(oai: openai.OpenAI) -> None:
    with oai.chat.completions.stream(model="parrot", messages=says("Hello you")) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == "Hello you"


@pytest.mark.parametrize("stop", ["you", ["you", "never"], ["lo y"]])
def test_stop_strings_end_an_answer(oai: openai.OpenAI, stop: Any) -> None:
    answer = oai.chat.completions.create(model="parrot", messages=says("Hello you"), stop=stop)
    assert (
        answer.choices[0].message.content == "Hello you".split(stop if isinstance(stop, str) else stop[0])[0]
    )
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_as_long_as_it_may_be(oai: openai.OpenAI, name: str) -> None:
    answer = oai.chat.completions.create(model="parrot", messages=says("Hello you"), **{name: 5})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_told_apart(oai: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "n": 3,
        "max_tokens": 6,
        "seed": 5,
        "temperature": 1.5,
    }
    whole = [choice.message.content for choice in oai.chat.completions.create(**asked).choices]
    assert len(whole) == 3
    if stream:
        texts = ["", "", ""]
        for chunk in oai.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert texts == whole


def test_a_seed_repeats_an_answer(oai: openai.OpenAI) -> None:
    def answer(seed: int) -> str | None:
        made = oai.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=12, temperature=2, seed=seed, top_p=1
        )
        return made.choices[0].message.content

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_log_probabilities_of_a_chat(oai: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 4,
        "temperature": 0,
        "logprobs": True,
    }
    logprobs = oai.chat.completions.create(**asked, top_logprobs=3).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 4
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert entry.bytes is not None
    streamed = [
        entry.logprob
        for chunk in oai.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or ()
    ]
    assert streamed == [entry.logprob for entry in logprobs.content]


def test_a_bias_forbids_and_forces_tokens(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=3, temperature=0, logit_bias={"120": 100}
    )
    assert answer.choices[0].message.content == "xxx"


def test_an_answer_of_a_schema_is_parsed(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.parse(
        model="tiny", messages=HELLO, response_format=City, max_tokens=64, logit_bias=NO_SPACE
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_an_answer_is_some_json_object(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(
        model="tiny",
        messages=HELLO,
        response_format={"type": "json_object"},
        max_tokens=8,
        temperature=0,
        logit_bias={str(ord("}")): 50},
    )
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("{")


@pytest.mark.parametrize(
    ("extra", "holds"),
    [
        ({"choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"choice": ['"a" | "b"']}, lambda text: text == '"a" | "b"'),
        ({"regex": "[0-9]{3}"}, lambda text: text.isdigit() and len(text) == 3),
        ({"grammar": 'root ::= "left" | "right"'}, lambda text: text in ("left", "right")),
        ({"grammar": 'start: "one" | "two"'}, lambda text: text in ("one", "two")),
    ],
)
def test_answers_are_held_to_forms(oai: openai.OpenAI, extra: dict[str, Any], holds: Any) -> None:
    answer = oai.chat.completions.create(model="tiny", messages=HELLO, max_tokens=32, extra_body=extra)
    assert holds(answer.choices[0].message.content)


# --- tools ---


def test_a_call_comes_as_a_call(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(model="parrot", messages=says(CALL), tools=TOOLS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})


def test_a_call_is_streamed_in_pieces_that_fit_together(oai: openai.OpenAI) -> None:
    with oai.chat.completions.stream(model="parrot", messages=says(CALL), tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in kinds
    assert message.tool_calls is not None
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Oslo"}


def test_text_before_a_call_and_two_calls(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(
        model="parrot", messages=says(f"Let me see.{CALL}{CALL}"), tools=TOOLS
    )
    message = answer.choices[0].message
    assert (message.content or "").strip() == "Let me see."
    assert message.tool_calls is not None
    assert len(message.tool_calls) == 2
    assert len({call.id for call in message.tool_calls}) == 2


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["required", "named"]
)
def test_a_call_that_is_required_is_made(oai: openai.OpenAI, choice: Any) -> None:
    answer = oai.chat.completions.create(
        model="tiny",
        messages=HELLO,
        tools=TOOLS,
        tool_choice=choice,
        max_tokens=120,
        parallel_tool_calls=False,
        logit_bias=NO_SPACE,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls) == 1
    assert calls[0].type == "function"
    assert "city" in json.loads(calls[0].function.arguments)


def test_without_a_choice_of_tools_marks_are_text(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(
        model="parrot", messages=says("plain"), tools=TOOLS, tool_choice="none"
    )
    assert answer.choices[0].message.content == "plain"
    assert answer.choices[0].finish_reason == "stop"


def test_a_call_that_cannot_be_read_is_loud(oai: openai.OpenAI) -> None:
    text = '<tool_call>\n{"name": "weather", "arguments": [oops\n</tool_call>'
    answer = oai.chat.completions.create(model="parrot", messages=says(text), tools=TOOLS)
    assert answer.choices[0].message.tool_calls is None
    assert "oops" in (answer.choices[0].message.content or "")
    assert answer.model_extra is not None
    assert answer.model_extra["x_apportion"]["warnings"]


def test_the_result_of_a_call_goes_back(oai: openai.OpenAI) -> None:
    called = oai.chat.completions.create(model="parrot", messages=says(CALL), tools=TOOLS).choices[0].message
    assert called.tool_calls is not None
    result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
    answer = oai.chat.completions.create(model="parrot", messages=[*says(CALL), called, result], tools=TOOLS)
    assert answer.choices[0].message.content == "rain"


def test_thoughts_are_told_apart(oai: openai.OpenAI) -> None:
    answer = oai.chat.completions.create(model="parrot", messages=says("<think>hm</think>Yes"))
    message = answer.choices[0].message
    assert message.content == "Yes"
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == "hm"


# --- completions ---


def test_texts_are_continued(oai: openai.OpenAI) -> None:
    answer = oai.completions.create(model="tiny", prompt=["Once", "Twice"], max_tokens=3, n=2, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_token_ids_are_a_prompt(oai: openai.OpenAI) -> None:
    as_text = oai.completions.create(model="tiny", prompt="abc", max_tokens=4, temperature=0)
    as_ids = oai.completions.create(model="tiny", prompt=[256, 97, 98, 99], max_tokens=4, temperature=0)
    assert as_text.choices[0].text == as_ids.choices[0].text


def test_completions_are_streamed(oai: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "Once", "max_tokens": 5, "temperature": 0}
    chunks = list(oai.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    whole = oai.completions.create(**asked).choices[0]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.text
    assert chunks[-1].usage is not None


def test_log_probabilities_of_completions(oai: openai.OpenAI) -> None:
    answer = oai.completions.create(model="tiny", prompt="Once", max_tokens=3, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.top_logprobs is not None
    assert len(logprobs.tokens) == 3
    assert all(len(top) == 2 for top in logprobs.top_logprobs)
    assert "".join(logprobs.tokens) == answer.choices[0].text or "\\x" in "".join(logprobs.tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_the_prompt_is_echoed_with_its_log_probabilities(oai: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "prompt": "Once",
        "max_tokens": 2,
        "echo": True,
        "logprobs": 1,
        "temperature": 0,
    }
    if stream:
        chunks = list(oai.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].text for chunk in chunks)
        values = [
            value
            for chunk in chunks
            if (told := chunk.choices[0].logprobs)
            for value in told.token_logprobs or ()
        ]
    else:
        choice = oai.completions.create(**asked).choices[0]
        text, told = choice.text, choice.logprobs
        assert told is not None
        assert told.text_offset is not None
        values = told.token_logprobs or []
        assert told.text_offset[0] == 0
    assert "Once" in text
    assert len(values) >= 6
    assert values[0] is None, "nothing stands before the first token"
    assert all(value is not None and value <= 0 for value in values[1:])


def test_best_of_is_refused(oai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oai.completions.create(model="tiny", prompt="Once", best_of=3)
    assert caught.value.param == "best_of"


# --- embeddings ---


def test_embeddings_are_unit_vectors(oai: openai.OpenAI) -> None:
    answer = oai.embeddings.create(model="tiny", input=["Once", "Twice"])
    assert [one.index for one in answer.data] == [0, 1]
    assert sum(x * x for x in answer.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_embeddings_in_base64_are_the_same_numbers(oai: openai.OpenAI) -> None:
    numbers = oai.embeddings.create(model="tiny", input="Once", encoding_format="float").data[0].embedding
    text: Any = oai.embeddings.create(model="tiny", input="Once", encoding_format="base64").data[0].embedding
    data = base64.b64decode(text)
    assert struct.unpack(f"<{len(data) // 4}f", data) == pytest.approx(numbers)


# --- responses ---


def test_a_response_is_made(oai: openai.OpenAI) -> None:
    answer = oai.responses.create(model="parrot", input="How are you?", instructions="Repeat")
    assert (answer.output_text, answer.status) == ("How are you?", "completed")
    assert answer.instructions == "Repeat"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 12
    assert answer.usage.input_tokens_details.cached_tokens >= 0


def test_a_response_is_streamed(oai: openai.OpenAI) -> None:
    with oai.responses.stream(model="parrot", input="Hello you") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello you"


def test_a_response_that_is_cut_off_says_so(oai: openai.OpenAI) -> None:
    answer = oai.responses.create(model="parrot", input="Hello you", max_output_tokens=5)
    assert (answer.output_text, answer.status) == ("Hello", "incomplete")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_response_calls_and_gets_the_result(oai: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "strict": False, **TOOLS[0]["function"]}]
    called = oai.responses.create(model="parrot", input=CALL, tools=tools)
    call = next(item for item in called.output if item.type == "function_call")
    assert json.loads(call.arguments) == {"city": "Oslo"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    items: Any = [{"role": "user", "content": CALL}, *called.output, result]
    assert oai.responses.create(model="parrot", input=items, tools=tools).output_text == "rain"


def test_a_response_thinks(oai: openai.OpenAI) -> None:
    answer = oai.responses.create(model="parrot", input="<think>hm</think>Yes", reasoning={"effort": "low"})
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output_text == "Yes"
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 2


def test_a_response_of_a_schema_is_parsed(oai: openai.OpenAI) -> None:
    answer = oai.responses.parse(
        model="tiny",
        input="Hello",
        text_format=City,
        max_output_tokens=64,
        extra_body={"logit_bias": NO_SPACE},
    )
    assert isinstance(answer.output_parsed, City)


def test_a_response_goes_on_from_nothing_that_is_kept(oai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oai.responses.create(model="parrot", input="Hello", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


# --- errors ---


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(oai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oai.chat.completions.create(model="tiny", messages=says("long " * 400))
    assert caught.value.code == "context_length_exceeded"
    assert "1024" in caught.value.message


def test_images_are_refused(oai: openai.OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]
    with pytest.raises(openai.BadRequestError) as caught:
        oai.chat.completions.create(model="tiny", messages=[{"role": "user", "content": parts}])
    assert caught.value.param == "messages.0.content.1"
    assert "text" in caught.value.message


# --- async ---


@pytest.mark.parametrize("stream", [False, True])
def test_the_asynchronous_client_asks_many_at_once(server: Running, stream: bool) -> None:
    async def ask(client: openai.AsyncOpenAI, text: str) -> str:
        if not stream:
            answer = await client.chat.completions.create(model="parrot", messages=says(text))
            return answer.choices[0].message.content or ""
        chunks = await client.chat.completions.create(model="parrot", messages=says(text), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            return await asyncio.gather(*(ask(client, f"Number {i}") for i in range(8)))

    assert asyncio.run(ask_all()) == [f"Number {i}" for i in range(8)]


def test_the_asynchronous_client_embeds_responds_and_lists(server: Running) -> None:
    async def ask() -> tuple[int, str, list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            vectors = await client.embeddings.create(model="tiny", input=["a", "b", "c"])
            response = await client.responses.create(model="parrot", input="Hello")
            return len(vectors.data), response.output_text, [model.id async for model in client.models.list()]

    assert asyncio.run(ask()) == (3, "Hello", ["tiny", "parrot"])


def test_the_asynchronous_client_leaves_a_stream(server: Running) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            stream = await client.completions.create(model="tiny", prompt="Once", max_tokens=200, stream=True)
            async for _ in stream:
                break
            await stream.close()
            return (await client.responses.create(model="parrot", input="still here")).output_text

    assert asyncio.run(ask()) == "still here"
