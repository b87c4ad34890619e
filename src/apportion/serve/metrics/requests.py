"""Requests: how many, in which state, what they took and how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from apportion.core.histogram import Histogram
from apportion.serve.meters.finished import REASONS
from apportion.serve.metrics.metric import Metric, Values, counter, gauge, histogram
from apportion.serve.metrics.sight import Sight, each_model
from apportion.serve.status.requests import PHASES, phase_of

Labelled = Iterator[tuple[tuple[str, ...], float]]
TIMES = {
    "time_to_first_token_seconds": ("ttft_s", "From when a request came to its first token."),
    "time_per_output_token_seconds": ("tpot_s", "Of an answer's tokens after the first, their mean."),
    "request_seconds": ("e2e_s", "From when a request came to its last token."),
    "request_queue_seconds": ("queue_s", "From when a request came until there was room for it."),
    "request_prefill_seconds": ("prefill_s", "From then to the first token."),
    "request_decode_seconds": ("decode_s", "From the first token to the last."),
    "request_prompt_tokens": ("prompt_tokens", "Tokens of a prompt."),
    "request_output_tokens": ("output_tokens", "Tokens of an answer."),
}


def states(sight: Sight) -> Labelled:
    count = Counter((answer.label.model, phase_of(answer)) for answer in sight.answers)
    for meter in sight.meters:
        for phase in PHASES:
            yield (meter.name, phase), count[meter.name, phase]


def finished(sight: Sight) -> Labelled:
    for meter in sight.meters:
        for reason in REASONS:
            yield (meter.name, reason), meter.finished.reasons[reason]


def prefill_progress(sight: Sight) -> Labelled:
    for meter in sight.meters:
        reading = [
            answer.progress
            for answer in sight.answers
            if answer.label.model == meter.name and phase_of(answer) == "prefill"
        ]
        total = sum(total for _, total in reading)
        if total:
            yield (meter.name,), sum(done for done, _ in reading) / total


def of_finished(name: str) -> Callable[[Sight], Values]:
    """A histogram of what requests took."""

    def values(sight: Sight) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        for meter in sight.meters:
            yield (meter.name,), meter.finished.histograms[name]

    return values


def gaps(sight: Sight) -> Iterator[tuple[tuple[str, ...], Histogram]]:
    for meter in sight.meters:
        if meter.minute is not None:
            yield (meter.name,), meter.minute.gap_s


def step_sizes(sight: Sight) -> Iterator[tuple[tuple[str, ...], Histogram]]:
    for meter in sight.meters:
        if meter.minute is not None:
            yield (meter.name,), meter.minute.step_tokens


def count_of(name: str, sentence: str, field: str) -> Metric:
    """A counter of the engines."""
    return counter(name, sentence, ("model",), each_model(lambda llm: getattr(llm.engine.counters, field)))


METRICS = (
    gauge("apportion_requests", "Requests that clients wait for, by state.", ("model", "state"), states),
    counter(
        "apportion_requests_finished_total",
        "Answers that ended, by why.",
        ("model", "finish_reason"),
        finished,
    ),
    gauge(
        "apportion_prefill_progress_ratio",
        "Of the prompts that are being read, the share that was; absent where none is.",
        ("model",),
        prefill_progress,
    ),
    *(
        histogram(f"apportion_{name}", sentence, ("model",), of_finished(figure))
        for name, (figure, sentence) in TIMES.items()
    ),
    histogram(
        "apportion_inter_token_seconds",
        "Between the ends of the steps that gave an answer one token and the next.",
        ("model",),
        gaps,
    ),
    histogram(
        "apportion_step_tokens", "Tokens that passed the last layer in one step.", ("model",), step_sizes
    ),
    count_of("apportion_steps_total", "Passes over the layers, or over some of them.", "steps"),
    count_of("apportion_computed_tokens_total", "Tokens that passed all layers.", "computed_tokens"),
    count_of("apportion_output_tokens_total", "Tokens of answers.", "output_tokens"),
    count_of(
        "apportion_reused_tokens_total",
        "Tokens that needed no computing, since their keys and values were kept.",
        "reused_tokens",
    ),
    count_of("apportion_drafted_tokens_total", "Tokens that were guessed ahead.", "drafted_tokens"),
    count_of("apportion_accepted_tokens_total", "Guesses that were right.", "accepted_tokens"),
    count_of("apportion_preemptions_total", "Requests that had to yield their room.", "yields"),
)
