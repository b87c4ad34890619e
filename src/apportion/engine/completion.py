"""What a request gives back: deltas while it runs, a completion when it ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

FinishReason: TypeAlias = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token and its natural log-probability under the model's own logits."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """One token's log-probability, and the likeliest tokens' at its place, best first."""

    chosen: Logprob
    top: tuple[Logprob, ...]


class Delta(NamedTuple):
    """What one decode step adds.

    Attributes:
        text: whole characters only; empty while a character, or what may be a stop string, is incomplete.
        token_id: the token chosen; None for an end-of-generation token.
        logprobs: of `token_id`, if asked for.
        finish_reason: set on the last delta.
    """

    text: str
    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds; rates in tokens per second, 0.0 where nothing was timed.

    Attributes:
        prefill_s: computing the prompt's tokens, those found in the cache left out.
        decode_s: computing and choosing the tokens after the first.
        ttft_s: from the call to the first output token.
        prefill_tok_s: computed prompt tokens by prefill_s.
        decode_tok_s: steps after the first token by decode_s.
    """

    prefill_s: float
    decode_s: float
    ttft_s: float
    prefill_tok_s: float
    decode_tok_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished (or cancelled) answer.

    Attributes:
        text: the answer, without stop string and end-of-generation token.
        token_ids: the tokens chosen, those of a stop string included.
        finish_reason: `stop` (end of generation or a stop string), `length` (max_tokens or the context's end)
            or `cancelled`.
        prompt_tokens: tokens of the prompt, `cached_tokens` of which were still in the KV cache.
        seed: what the draws came from; the same seed and prompt repeat the answer.
        logprobs: one entry for each of `token_ids`, if asked for.
        prompt_logprobs: one entry for each token of the prompt, if asked for; the first is None.
        end_logprobs: of the end-of-generation token, if `logprobs` are asked for and it ended the answer.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None = None
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    end_logprobs: TokenLogprobs | None = None

    @property
    def output_tokens(self) -> int:
        return len(self.token_ids)

    def to_dict(self) -> dict[str, Any]:
        """The completion as one flat JSON-ready object, timings beside the counts."""
        fields: dict[str, Any] = asdict(self)
        timings = fields.pop("timings")
        fields["output_tokens"] = self.output_tokens
        return {**fields, **timings}
