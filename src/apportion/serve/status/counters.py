"""Counts of the models that are loaded, by what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from apportion.engine import LLM
from apportion.serve.meters.sources import disk_store, nbytes_read


def counters_of(llms: Iterable[LLM]) -> dict[str, int]:
    """All of them together, since they were loaded."""
    total: Counter[str] = Counter()
    for llm in llms:
        total.update(counted(llm))
    return dict(total)


def counted(llm: LLM) -> dict[str, int]:
    """Of one model."""
    engine, store = llm.engine.counters, disk_store(llm)
    counts = {
        "requests": engine.requests,
        "steps": engine.steps,
        "computed_tokens": engine.computed_tokens,
        "output_tokens": engine.output_tokens,
        "reused_tokens": engine.reused_tokens,
        "drafted_tokens": engine.drafted_tokens,
        "accepted_tokens": engine.accepted_tokens,
        "yields": engine.yields,
        "cancelled": engine.cancelled,
        "failed": engine.failed,
        "disk_read_bytes": nbytes_read(llm),
        "disk_written_bytes": 0 if store is None else store.counters.nbytes_written,
    }
    if llm.prefixes is not None:
        prefixes = llm.prefixes.counters
        counts |= {
            "prefix_hits": prefixes.hits,
            "prefix_reloads": prefixes.reloads,
            "prefix_misses": prefixes.misses,
            "prefix_evictions": prefixes.evictions,
        }
    if llm.residency is not None:
        residency = llm.residency.counters
        counts |= {
            "expert_hits": residency.hits + residency.prefill_hits,
            "expert_misses": residency.misses + residency.prefill_misses,
            "layer_reads": residency.layer_reads,
        }
    return counts


CAUSES = ("experts", "layers", "embedding", "kv")


def stalls_of(llms: Iterable[LLM]) -> dict[str, float]:
    """Seconds in which nothing was computed, by what was waited for."""
    total = dict.fromkeys(CAUSES, 0.0)
    for llm in llms:
        total["kv"] += llm.engine.counters.store_wait_s
        if llm.residency is not None:
            counters = llm.residency.counters
            total["experts"] += counters.expert_stall_s
            total["layers"] += counters.layer_stall_s
            total["embedding"] += counters.row_stall_s
    return total
