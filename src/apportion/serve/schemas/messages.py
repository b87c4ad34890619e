"""Anthropic's messages."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from apportion.serve.schemas.base import Asked, Told, within
from apportion.serve.schemas.many import Many, Several
from apportion.serve.schemas.usage import Extra


class AskedBlock(Asked):
    """Text, a thought, a call of a tool, or its result."""

    type: str = Field(description="text, thinking, redacted_thinking, tool_use or tool_result")
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | Several[dict[str, Any]] | None = None


class AskedMessage(Asked):
    """A message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Several[AskedBlock]


class MessagesTool(Asked):
    """A tool; those that servers run themselves there are none of."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoice(Asked):
    """Which tools may be called."""

    type: str = Field(description="auto, any, none or tool")
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Asked):
    """Whether thoughts are wanted."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None


class OutputConfig(Asked):
    """How the answer is written."""

    format: dict[str, Any] | None = None


class CountRequest(Asked):
    """A conversation to be counted."""

    model: str
    messages: Several[AskedMessage] = Field(json_schema_extra={"minItems": 1})
    system: str | Several[AskedBlock] | None = None
    tools: Several[MessagesTool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None


class MessagesRequest(CountRequest):
    """A conversation to be answered."""

    max_tokens: int = Field(json_schema_extra={"minimum": 1})
    stop_sequences: Many[str] | None = None
    stream: bool | None = None
    temperature: float | None = within(0)
    top_p: float | None = within(0, 1)
    top_k: int | None = within(0)
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class MessagesUsage(Told):
    """Tokens read and said; `input_tokens` are those that had to be computed."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


class ToldBlock(Told):
    """Text, a thought, or a call of a tool."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Message(Told):
    """An answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ToldBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessagesUsage
    x_apportion: Extra | None = None


class MessagesEvent(Told):
    """One event of a stream; `type` is its name, too."""

    type: Literal[
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]
    message: Message | None = None
    index: int | None = None
    content_block: ToldBlock | None = None
    delta: dict[str, Any] | None = None
    usage: MessagesUsage | None = None


class TokenCount(Told):
    """Tokens that a conversation is."""

    input_tokens: int
