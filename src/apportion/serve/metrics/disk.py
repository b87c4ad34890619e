"""Experts and the disk: what was found, what was read, and what was waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from apportion.core.claim import Tier
from apportion.core.histogram import Histogram
from apportion.engine import LLM
from apportion.serve.meters.sources import disk_store, weights_nbytes_read
from apportion.serve.metrics.metric import counter, gauge, histogram
from apportion.serve.metrics.sight import Sight, each_split
from apportion.serve.status.counters import stalls_of
from apportion.serve.status.experts import experts_of

Labelled = Iterator[tuple[tuple[str, ...], float]]


def expert_requests(sight: Sight) -> Labelled:
    for name, llm in sight.loaded.items():
        if llm.residency is not None:
            counters = llm.residency.counters
            yield (name, "decode", Tier.RAM, "hit"), counters.hits
            yield (name, "decode", Tier.DISK, "miss"), counters.misses
            yield (name, "prefill", Tier.RAM, "hit"), counters.prefill_hits
            yield (name, "prefill", Tier.DISK, "miss"), counters.prefill_misses


def load_times(sight: Sight) -> Iterator[tuple[tuple[str, ...], Histogram]]:
    for name, llm in sight.loaded.items():
        if llm.residency is not None:
            yield (name,), llm.residency.counters.load_s


def experts(llm: LLM) -> dict[str, float]:
    told = experts_of(llm)
    if told is None:
        return {}
    return {"resident": told.resident, "slots": told.slots, "all": told.layers * told.experts}


def layer_reads(sight: Sight) -> Labelled:
    for name, llm in sight.loaded.items():
        if llm.residency is not None:
            yield (name,), llm.residency.counters.layer_reads


def read_bytes(sight: Sight) -> Labelled:
    total = Counter(weights=0, kv=0)
    for llm in sight.llms:
        total["weights"] += weights_nbytes_read(llm)
        store = disk_store(llm)
        total["kv"] += 0 if store is None else store.counters.nbytes_read
    for content, nbytes in total.items():
        yield (Tier.DISK, content), nbytes


def reading(sight: Sight) -> Labelled:
    readers = (llm.residency.reader for llm in sight.llms if llm.residency is not None)
    yield (Tier.DISK, "weights"), sum(reader.stats().reading_s for reader in readers)


def written_bytes(sight: Sight) -> Labelled:
    stores = (disk_store(llm) for llm in sight.llms)
    nbytes = sum(store.counters.nbytes_written for store in stores if store is not None)
    yield (Tier.DISK, "kv"), nbytes


def stalls(sight: Sight) -> Labelled:
    for cause, seconds in stalls_of(sight.llms).items():
        yield (cause,), seconds


def fallbacks(sight: Sight) -> Labelled:
    total = Counter(threads_for_ring=0, buffered_reads=0, read_retries=0, store_off=0)
    for llm in sight.llms:
        if llm.residency is not None:
            reader, stats = llm.residency.reader, llm.residency.reader.stats()
            total["threads_for_ring"] += bool(reader.ring_refusal)
            total["buffered_reads"] += stats.nbytes_buffered > 0
            total["read_retries"] += stats.num_retries
        store = disk_store(llm)
        total["store_off"] += store is not None and not store.takes_writes
    for reason, count in total.items():
        yield (reason,), count


METRICS = (
    counter(
        "apportion_expert_requests_total",
        "Experts that were asked for, by whether memory had them: in decode each by every token, in prefill "
        "each once a pass.",
        ("model", "phase", "tier", "result"),
        expert_requests,
    ),
    histogram(
        "apportion_expert_load_seconds",
        "From when an expert that was waited for was asked of the disk to when it could be computed with.",
        ("model",),
        load_times,
    ),
    gauge(
        "apportion_experts",
        "Experts of layers whose experts come and go: those in memory, as many as have room, all.",
        ("model", "state"),
        each_split(experts),
    ),
    counter("apportion_layer_reads_total", "Streamed layers that were read.", ("model",), layer_reads),
    counter(
        "apportion_tier_read_bytes_total",
        "Bytes read from a tier while models ran, by what they were.",
        ("tier", "content"),
        read_bytes,
    ),
    counter(
        "apportion_tier_reading_seconds_total",
        "Seconds in which any of these bytes were on their way: their rate is what the disk gives.",
        ("tier", "content"),
        reading,
    ),
    counter(
        "apportion_tier_write_bytes_total",
        "Bytes written to a tier, which wears disks.",
        ("tier", "content"),
        written_bytes,
    ),
    counter(
        "apportion_stall_seconds_total",
        "Seconds in which nothing was computed, by what was waited for.",
        ("cause",),
        stalls,
    ),
    counter(
        "apportion_fallback_total",
        "How often a slower way was taken in place of a faster one that was refused or failed.",
        ("reason",),
        fallbacks,
    ),
)
