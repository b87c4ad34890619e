"""What requests that are over took: histograms for as long as the server runs, figures of the last ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from apportion.core.histogram import SECONDS, TOKENS, Histogram
from apportion.engine.request import Request
from apportion.serve.meters.minute import SPAN_S

MAX_KEPT = 1024  # of the last minute's requests; of more than that, the last ones speak for it
REASONS = ("stop", "length", "cancelled", "error")
CHOICES = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Took:
    """What one answer took, in seconds by the clock on the wall: from when its request came.

    Attributes:
        at_s: when it ended.
        queue_s: until there was room for it. prefill_s: from then to the first token; decode_s: from there to
            the end.
        ttft_s: to the first token; None where none came. tpot_s: of a token after the first; None where there
            was no second one.
        computed_tokens: of the prompt, those left out that were found.
    """

    at_s: float
    e2e_s: float
    queue_s: float
    prefill_s: float
    decode_s: float
    ttft_s: float | None
    tpot_s: float | None
    prompt_tokens: int
    computed_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, request: Request) -> Took | None:
        """Of a request that is over; None of one that never began."""
        spent, sequence = request.spent, request.sequence
        end_s = spent.finished_s
        if end_s is None:
            return None
        first_s = end_s if spent.first_token_s is None else spent.first_token_s
        admitted_s = first_s if spent.admitted_s is None else spent.admitted_s
        output_tokens = len(sequence.output)
        return cls(
            at_s=end_s,
            e2e_s=end_s - spent.added_s,
            queue_s=admitted_s - spent.added_s,
            prefill_s=first_s - admitted_s,
            decode_s=end_s - first_s,
            ttft_s=None if spent.first_token_s is None else first_s - spent.added_s,
            tpot_s=(end_s - first_s) / (output_tokens - 1) if output_tokens > 1 else None,
            prompt_tokens=sequence.num_prompt,
            computed_tokens=sequence.num_prompt - (request.num_cached or 0),
            output_tokens=output_tokens,
        )


Figure: TypeAlias = Callable[[Took], float | None]

FIGURES: dict[str, tuple[tuple[float, ...], Figure]] = {
    "ttft_s": (SECONDS, lambda took: took.ttft_s),
    "tpot_s": (SECONDS, lambda took: took.tpot_s),
    "e2e_s": (SECONDS, lambda took: took.e2e_s),
    "queue_s": (SECONDS, lambda took: took.queue_s),
    "prefill_s": (SECONDS, lambda took: None if took.ttft_s is None else took.prefill_s),
    "decode_s": (SECONDS, lambda took: None if took.ttft_s is None else took.decode_s),
    "inference_s": (SECONDS, lambda took: None if took.ttft_s is None else took.prefill_s + took.decode_s),
    "prompt_tokens": (TOKENS, lambda took: took.prompt_tokens),
    "output_tokens": (TOKENS, lambda took: took.output_tokens),
}


class Finished:
    """Requests of one model that are over. One thread adds; others may read.

    Attributes:
        histograms: by the names of FIGURES; max_tokens, choices: what was asked for.
        reasons: answers by why they ended, of REASONS.
    """

    def __init__(self) -> None:
        self.histograms = {name: Histogram(edges) for name, (edges, _) in FIGURES.items()}
        self.max_tokens = Histogram(TOKENS)
        self.choices = Histogram(CHOICES)
        self.reasons: Counter[str] = Counter()
        self._last: deque[Took] = deque(maxlen=MAX_KEPT)

    def add(self, requests: Sequence[Request], *, failed: bool = False) -> None:
        """The answers to one client's request, all of them over; well, unless the whole request failed."""
        self.choices.add(len(requests))
        for request in requests:
            self.reasons[reason_of(request, failed)] += 1
            self.max_tokens.add(request.sequence.max_output)
            took = Took.of(request)
            if took is None:
                continue
            for name, (_, figure) in FIGURES.items():
                value = figure(took)
                if value is not None:
                    self.histograms[name].add(value)
            self._last.append(took)

    def last(self, now_s: float, span_s: float = SPAN_S) -> list[Took]:
        """Those that ended in the last seconds, the oldest first."""
        return [took for took in list(self._last) if took.at_s > now_s - span_s]


def reason_of(request: Request, failed: bool) -> str:
    """Why an answer ended, of REASONS."""
    if failed or request.error is not None:
        return "error"
    return request.sequence.finish_reason or "cancelled"


def percentile(values: Iterable[float | None], share: float) -> float | None:
    """The smallest value that at least this share of them do not pass; None where none is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return known[min(len(known) - 1, max(0, -(-len(known) * round(share * 1000) // 1000) - 1))]
