"""What every API's writer does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from apportion.engine.completion import Completion, Delta, TokenLogprobs
from apportion.serve.sse import Event
from apportion.text.answer_parts import Part

if TYPE_CHECKING:
    from apportion.text.tokenizer import Tokenizer


class Writer(Protocol):
    """An answer in an API's words, event by event or in one piece."""

    end_mark: ClassVar[bytes]
    """What stands on the wire behind the last event."""

    def begin(self) -> Sequence[Event]:
        """Before the first token."""

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        """A delta of a choice, and what its text means."""

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        """After the last token."""

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        """The answer in one piece; `parts` of each choice."""


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that was read.

    Attributes:
        ids: its tokens.
        logprobs: one for each token, None for the first; None where nobody asked for them.
    """

    text: str
    ids: Sequence[int]
    logprobs: Sequence[TokenLogprobs | None] | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What all events of an answer share.

    Attributes:
        created: seconds since 1970.
        num_prompts: those whose tokens are counted once.
        prompt_tokens: tokens of all of them.
        echo: the prompt of a choice, where prompts come back before the answers.
    """

    answer_id: str
    model: str
    created: int
    tokenizer: Tokenizer
    num_prompts: int = 1
    include_usage: bool = False
    include_timings: bool = False
    prompt_tokens: int = 0
    echo: Callable[[int], Echo] | None = None


def ours(frame: Frame, completions: Sequence[Completion], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """What no other API has: timings where they were asked for, warnings where there are any."""
    extra: dict[str, Any] = {}
    if frame.include_timings:
        extra["timings"] = timings(completions)
    if warnings:
        extra["warnings"] = warnings
    return {"x_apportion": extra} if extra else {}


def timings(completions: Sequence[Completion]) -> dict[str, Any]:
    """Where an answer's time went, for those who ask."""
    first = completions[0].timings
    return {
        "ttft_s": first.ttft_s,
        "prefill_s": first.prefill_s,
        "decode_s": first.decode_s,
        "prefill_tok_s": first.prefill_tok_s,
        "decode_tok_s": first.decode_tok_s,
        "cached_tokens": completions[0].cached_tokens,
    }
