"""OpenAI's plain completions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from apportion.serve.schemas.base import Told, within
from apportion.serve.schemas.many import Many
from apportion.serve.schemas.sampling import Sampled
from apportion.serve.schemas.usage import Extra, Usage


class CompletionRequest(Sampled):
    """Texts to be continued."""

    prompt: str | Many[int] | Many[str] | Many[Many[int]] = Field(
        description="text, token ids, or a list of either"
    )
    logprobs: int | None = within(0, about="how many alternatives each token is told with")
    echo: bool | None = within(about="the prompt comes back before the answer")
    best_of: int | None = within(1, 1)
    suffix: str | None = within(maxLength=0)


class TextLogprobs(Told):
    """Of each token: its text, its log-probability, the likeliest, and where it begins in the text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Told):
    """One answer."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class TextCompletion(Told):
    """Texts that were continued."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    x_apportion: Extra | None = None


class TextChunkChoice(Told):
    """What a chunk adds to one answer."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextChunk(Told):
    """One event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChunkChoice]
    usage: Usage | None = None
    x_apportion: Extra | None = None
