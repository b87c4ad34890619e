"""OpenAI's chat completions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from apportion.serve.schemas.base import Asked, Told, within
from apportion.serve.schemas.many import Several
from apportion.serve.schemas.sampling import Sampled
from apportion.serve.schemas.usage import Extra, Usage


class ContentPart(Asked):
    """A part of a message; text alone can be read."""

    type: str
    text: str | None = None


class AskedFunction(Asked):
    """What a message repeats of a call: `arguments` is JSON text."""

    name: str
    arguments: str | dict[str, Any] | None = None


class AskedCall(Asked):
    """A call in a message of the assistant's."""

    id: str | None = None
    type: str | None = None
    function: AskedFunction


class ChatMessage(Asked):
    """A message of the conversation."""

    role: str = Field(description="system, developer, user, assistant or tool")
    content: str | Several[ContentPart] | None = None
    name: str | None = None
    tool_calls: Several[AskedCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(Asked):
    """A function that may be called."""

    name: str = Field(json_schema_extra={"pattern": "^[A-Za-z0-9_.-]{1,64}$"})
    description: str | None = None
    parameters: dict[str, Any] | None = within(about="a JSON schema")
    strict: bool | None = None


class Tool(Asked):
    """A tool; functions are the only ones."""

    type: str
    function: Function | None = None


class ChatRequest(Sampled):
    """A conversation to be answered."""

    messages: Several[ChatMessage] = Field(json_schema_extra={"minItems": 1})
    max_completion_tokens: int | None = within(1, about="the same as `max_tokens`")
    logprobs: bool | None = None
    top_logprobs: int | None = within(0)
    tools: Several[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = within(about="`auto`, `none`, `required`, or a function")
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: dict[str, Any] | None = within(about="what the template reads besides")


class ToldFunction(Told):
    """Which function is called; `arguments` is JSON text."""

    name: str
    arguments: str


class ToldCall(Told):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: ToldFunction


class Logprob(Told):
    """A token and its natural log-probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Logprob):
    """A token that was chosen, and the likeliest at its place."""

    top_logprobs: list[Logprob]


class Logprobs(Told):
    """Of all tokens of an answer."""

    content: list[TokenLogprob] | None


class Said(Told):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToldCall] | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatChoice(Told):
    """One answer."""

    index: int
    message: Said
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatCompletion(Told):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    x_apportion: Extra | None = None


class FunctionDelta(Told):
    """More of a call."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Told):
    """A call that begins, with its id and name, or more of its arguments."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChatDelta(Told):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChatChunkChoice(Told):
    """What a chunk adds to one answer."""

    index: int
    delta: ChatDelta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Told):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    x_apportion: Extra | None = None
