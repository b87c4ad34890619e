"""What requests of all generating routes may say about choosing tokens."""

from __future__ import annotations

from typing import Any

from apportion.serve.schemas.base import Asked, within
from apportion.serve.schemas.many import Many


class StreamOptions(Asked):
    """What a stream tells besides."""

    include_usage: bool | None = within(about="a last chunk tells the tokens read and said")


class Sampled(Asked):
    """Fields of chat and plain completions alike."""

    model: str | None = within(about="whom to ask; the server's first model where none is named")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = within(1, about="the most output tokens")
    temperature: float | None = within(0)
    top_p: float | None = within(0, 1)
    top_k: int | None = within(0)
    min_p: float | None = within(0, 1)
    typical_p: float | None = within(0, 1)
    seed: int | None = within(0)
    stop: str | Many[str] | None = within(about="texts that end the answer")
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = within(0)
    penalty_window: int | None = within(0)
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None
    n: int | None = within(1, about="answers to each prompt")
    response_format: dict[str, Any] | None = within(about="`text`, `json_object` or `json_schema`")
    regex: str | None = within(about="the answer matches this regular expression")
    grammar: str | None = within(about="the answer follows this grammar, in Lark or GBNF")
    choice: Many[str] | None = within(about="the answer is one of these texts")
    cache_salt: str | None = within(about="prefixes are shared with requests of the same salt alone")
    priority: int | None = within(-100, 100, "larger is more urgent")
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    x_apportion: bool | None = within(about="adds where the answer's time went")
