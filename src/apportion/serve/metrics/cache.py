"""Keys and values: blocks in memory, what is kept for later requests, and the stores below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apportion.engine import LLM
from apportion.serve.meters.sources import disk_store, remote_store
from apportion.serve.metrics.metric import Metric, counter, gauge
from apportion.serve.metrics.sight import each_model, each_split


def blocks(llm: LLM) -> dict[str, float]:
    pool = llm.engine.space.pool
    used = pool.num_blocks - pool.num_free - pool.num_idle
    return {"used": used, "kept": pool.num_idle, "free": pool.num_free}


def usage(llm: LLM) -> float:
    return blocks(llm)["used"] / max(1, llm.engine.space.pool.num_blocks)


def lookups(llm: LLM) -> dict[str, float]:
    if llm.prefixes is None:
        return {}
    counters = llm.prefixes.counters
    return {"hit": counters.hits, "reload": counters.reloads, "miss": counters.misses}


def evictions(llm: LLM) -> float:
    return 0 if llm.prefixes is None else llm.prefixes.counters.evictions


def pins_broken(llm: LLM) -> float:
    return 0 if llm.prefixes is None else llm.prefixes.counters.pins_broken


def stores(llm: LLM) -> dict[str, Any]:
    """Counters of its stores, by where they are."""
    found = {"disk": disk_store(llm), "remote": remote_store(llm)}
    return {place: store.counters for place, store in found.items() if store is not None}


def stored(read: Callable[[Any], float]) -> Callable[[LLM], dict[str, float]]:
    """A count of each store."""
    return lambda llm: {place: read(counters) for place, counters in stores(llm).items()}


def store_counter(name: str, sentence: str, read: Callable[[Any], float]) -> Metric:
    return counter(name, sentence, ("model", "store"), each_split(stored(read)))


def faults(counters: Any) -> float:
    total: int = getattr(counters, "faults", 0)
    return total + getattr(counters, "read_faults", 0) + getattr(counters, "write_faults", 0)


def refused(counters: Any) -> float:
    total: int = counters.refused_queue + counters.refused_off
    return total + getattr(counters, "refused_wear", 0)


METRICS = (
    gauge(
        "apportion_kv_blocks",
        "Blocks of keys and values: used by requests, kept for later ones, free.",
        ("model", "state"),
        each_split(blocks),
    ),
    gauge("apportion_kv_usage_ratio", "Share of them that requests use.", ("model",), each_model(usage)),
    counter(
        "apportion_prefix_blocks_total",
        "Blocks of prompts, by whether memory had them, a store had them, or nobody.",
        ("model", "result"),
        each_split(lookups),
    ),
    counter(
        "apportion_prefix_evictions_total", "Kept blocks that gave way.", ("model",), each_model(evictions)
    ),
    counter(
        "apportion_prefix_pins_broken_total",
        "Of those, blocks that were to stay.",
        ("model",),
        each_model(pins_broken),
    ),
    store_counter("apportion_store_hits_total", "Blocks that a store gave.", lambda it: it.hits),
    store_counter(
        "apportion_store_misses_total", "Reads of a store that gave nothing.", lambda it: it.misses
    ),
    store_counter("apportion_store_blocks_written_total", "Blocks that a store took.", lambda it: it.written),
    store_counter("apportion_store_blocks_refused_total", "Blocks that a store did not take.", refused),
    store_counter(
        "apportion_store_blocks_lost_total", "Blocks that it took and did not write.", lambda it: it.lost
    ),
    store_counter(
        "apportion_store_corrupt_total",
        "Blocks that were found damaged, and not used.",
        lambda it: it.corrupt,
    ),
    store_counter("apportion_store_faults_total", "Calls of a store's disk or server that failed.", faults),
)
