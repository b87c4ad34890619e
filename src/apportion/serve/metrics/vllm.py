"""vLLM's names for what its dashboards show, of our values (vllm/v1/metrics/loggers.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from apportion.core.histogram import Histogram
from apportion.serve.meters import Meter
from apportion.serve.metrics import cache, requests
from apportion.serve.metrics.metric import Metric, Values, counter, gauge, histogram
from apportion.serve.metrics.sight import Sight, each_model
from apportion.serve.status.requests import phase_of

LABELS = ("model_name", "engine")
ENGINE = "0"
REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "error": "error"}
Read = Callable[[Sight], Values]


def as_one_engine(read: Read) -> Read:
    """Values by model, of the only engine that there is."""

    def values(sight: Sight) -> Iterator[tuple[tuple[str, ...], float | Histogram]]:
        for labels, value in read(sight):
            yield (labels[0], ENGINE, *labels[1:]), value

    return values


def running(sight: Sight) -> Values:
    return counted(sight, lambda phase: phase != "waiting")


def waiting(sight: Sight) -> Values:
    return counted(sight, lambda phase: phase == "waiting")


def counted(sight: Sight, counts: Callable[[str], bool]) -> Iterator[tuple[tuple[str, ...], float]]:
    for meter in sight.meters:
        own = (answer for answer in sight.answers if answer.label.model == meter.name)
        yield (meter.name,), sum(len(answer.requests) for answer in own if counts(phase_of(answer)))


def of_meter(read: Callable[[Meter], Histogram]) -> Read:
    def values(sight: Sight) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        for meter in sight.meters:
            yield (meter.name,), read(meter)

    return values


def prompt_tokens(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for meter in sight.meters:
        yield (meter.name,), meter.finished.histograms["prompt_tokens"].total


def succeeded(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for meter in sight.meters:
        for ours, theirs in REASONS.items():
            yield (meter.name, theirs), meter.finished.reasons[ours]


def prefix_queries(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, llm in sight.loaded.items():
        yield (name,), sum(cache.lookups(llm).values()) * llm.engine.block_tokens


def prefix_hits(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, llm in sight.loaded.items():
        found = cache.lookups(llm)
        yield (name,), (found.get("hit", 0) + found.get("reload", 0)) * llm.engine.block_tokens


def cache_config(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, llm in sight.loaded.items():
        pool = llm.engine.space.pool
        yield (name, str(llm.engine.block_tokens), llm.serving.kv, str(pool.num_blocks)), 1


HISTOGRAMS: dict[str, tuple[str, Read]] = {
    "time_to_first_token_seconds": ("Time to first token.", requests.of_finished("ttft_s")),
    "time_per_output_token_seconds": ("Time between tokens (old name).", requests.gaps),
    "inter_token_latency_seconds": ("Time between tokens.", requests.gaps),
    "request_time_per_output_token_seconds": ("Mean of an answer.", requests.of_finished("tpot_s")),
    "e2e_request_latency_seconds": ("Time of a request.", requests.of_finished("e2e_s")),
    "request_queue_time_seconds": ("Time in WAITING.", requests.of_finished("queue_s")),
    "request_inference_time_seconds": ("Time in RUNNING.", requests.of_finished("inference_s")),
    "request_prefill_time_seconds": ("Time in PREFILL.", requests.of_finished("prefill_s")),
    "request_decode_time_seconds": ("Time in DECODE.", requests.of_finished("decode_s")),
    "request_prompt_tokens": ("Tokens of prompts.", requests.of_finished("prompt_tokens")),
    "request_generation_tokens": ("Tokens of answers.", requests.of_finished("output_tokens")),
    "request_max_num_generation_tokens": (
        "The most tokens of answers.",
        of_meter(lambda meter: meter.finished.max_tokens),
    ),
    "request_params_max_tokens": (
        "`max_tokens` of requests.",
        of_meter(lambda meter: meter.finished.max_tokens),
    ),
    "request_params_n": ("`n` of requests.", of_meter(lambda meter: meter.finished.choices)),
    "iteration_tokens_total": ("Tokens of steps.", requests.step_sizes),
}


def all_metrics() -> Iterable[Metric]:
    """The metrics, before they are those of one engine."""
    model = ("model",)
    yield gauge("vllm:num_requests_running", "Requests that run.", model, running)
    yield gauge("vllm:num_requests_waiting", "Requests that wait.", model, waiting)
    yield gauge("vllm:kv_cache_usage_perc", "KV cache in use, 0 to 1.", model, each_model(cache.usage))
    yield counter("vllm:prefix_cache_queries_total", "Tokens that were looked up.", model, prefix_queries)
    yield counter("vllm:prefix_cache_hits_total", "Tokens that were found.", model, prefix_hits)
    yield counter(
        "vllm:num_preemptions_total",
        "Requests that had to yield.",
        model,
        each_model(lambda llm: llm.engine.counters.yields),
    )
    yield counter("vllm:prompt_tokens_total", "Tokens of prompts.", model, prompt_tokens)
    yield counter(
        "vllm:generation_tokens_total",
        "Tokens of answers.",
        model,
        each_model(lambda llm: llm.engine.counters.output_tokens),
    )
    yield counter(
        "vllm:request_success_total", "Answers that ended.", ("model", "finished_reason"), succeeded
    )
    yield gauge(
        "vllm:cache_config_info",
        "How keys and values lie in memory.",
        ("model", "block_size", "cache_dtype", "num_gpu_blocks"),
        cache_config,
    )
    for name, (sentence, read) in HISTOGRAMS.items():
        yield histogram(f"vllm:{name}", sentence, model, read)


METRICS = tuple(
    replace(metric, labels=(*LABELS, *metric.labels[1:]), read=as_one_engine(metric.read))
    for metric in all_metrics()
)
