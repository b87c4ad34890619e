"""Texts as tokens, tokens as text, and conversations as prompts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from apportion.serve.schemas.base import Asked, Told, within
from apportion.serve.schemas.chat import ChatMessage, Tool
from apportion.serve.schemas.many import Many, Several


class TemplateRequest(Asked):
    """A conversation to be written as the model reads it."""

    model: str | None = None
    messages: Several[ChatMessage]
    tools: Several[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    add_generation_prompt: bool | None = within(
        about="end with the beginning of the answer; true unless told"
    )
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None


class TemplateAnswer(Told):
    """The conversation as text."""

    prompt: str


class TokenizeRequest(Asked):
    """A prompt, or a conversation, to be told in tokens."""

    model: str | None = None
    prompt: str | None = None
    messages: Several[ChatMessage] | None = None
    tools: Several[Tool] | None = None
    add_special_tokens: bool | None = within(about="begin a prompt as a completion would; true unless told")
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeAnswer(Told):
    """The tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Asked):
    """Tokens to be told as text."""

    model: str | None = None
    tokens: Many[int] = Field(description="token ids")


class DetokenizeAnswer(Told):
    """The text."""

    prompt: str


class TokenizerInfo(Told):
    """The tokenizer of a model; tokens as its vocabulary spells them."""

    bos_token: str | None
    eos_token: str | None
    add_bos_token: bool = Field(description="whether a prompt begins with it")
    vocab_size: int
    model_max_length: int
    chat_template: str | None
