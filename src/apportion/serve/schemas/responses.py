"""OpenAI's responses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from apportion.serve.schemas.base import Asked, Told, within
from apportion.serve.schemas.many import Many, Several
from apportion.serve.schemas.usage import Extra


class InputItem(Asked):
    """A message, a thought, a call of a function, or its output."""

    type: str | None = within(about="message, reasoning, function_call or function_call_output")
    role: str | None = None
    content: str | Several[dict[str, Any]] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | Several[dict[str, Any]] | None = None


class ResponseTool(Asked):
    """A tool; functions are the only ones."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(Asked):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    strict: bool | None = None


class TextOptions(Asked):
    """How text is written."""

    format: TextFormat | None = None


class ReasoningOptions(Asked):
    """How much is thought."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: str | None = None


class ResponseRequest(Asked):
    """A conversation to be answered; nothing is kept of it."""

    model: str | None = None
    input: str | Several[InputItem]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_output_tokens: int | None = within(1)
    temperature: float | None = within(0)
    top_p: float | None = within(0, 1)
    top_logprobs: int | None = within(0)
    tools: Several[ResponseTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: Many[str] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = within(about="nothing is stored")
    previous_response_id: str | None = within(about="refused: nothing is kept between requests")
    truncation: Literal["auto", "disabled"] | None = within(about="nothing is ever truncated")
    user: str | None = None


class OutputPart(Told):
    """Text of a message or a thought."""

    type: Literal["output_text", "reasoning_text"]
    text: str


class OutputItem(Told):
    """What the model thought, said or called."""

    id: str
    type: Literal["message", "reasoning", "function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] | None = None
    content: list[OutputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class CachedDetails(Told):
    """Input tokens that needed no computing."""

    cached_tokens: int


class ReasoningDetails(Told):
    """Output tokens that were thoughts."""

    reasoning_tokens: int


class ResponseUsage(Told):
    """Tokens read and said."""

    input_tokens: int
    input_tokens_details: CachedDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int


class Incomplete(Told):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens", "content_filter"]


class Response(Told):
    """An answer."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None
    incomplete_details: Incomplete | None
    error: dict[str, Any] | None
    parallel_tool_calls: bool
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    x_apportion: Extra | None = None


class ResponseEvent(Told):
    """One event of a stream; `type` is its name, too."""

    type: str = Field(examples=["response.created", "response.output_text.delta", "response.completed"])
    sequence_number: int
    response: Response | None = None
    item: OutputItem | None = None
    part: OutputPart | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
