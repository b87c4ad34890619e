"""Counts of tokens, and what an answer tells of itself besides."""

from __future__ import annotations

from apportion.serve.schemas.base import Told


class PromptDetails(Told):
    """Prompt tokens that needed no computing."""

    cached_tokens: int


class Usage(Told):
    """Tokens read and said."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Timings(Told):
    """Where an answer's time went, in seconds; rates in tokens per second."""

    ttft_s: float
    prefill_s: float
    decode_s: float
    prefill_tok_s: float
    decode_tok_s: float
    cached_tokens: int


class Extra(Told):
    """What other servers do not tell."""

    timings: Timings | None = None
    warnings: list[str] | None = None
