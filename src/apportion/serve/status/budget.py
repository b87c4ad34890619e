"""How memory and disk are divided now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apportion.core.claim import Kind, Tier
from apportion.core.resident import peak_rss_bytes, rss_bytes
from apportion.engine import LLM
from apportion.memory import Ledger
from apportion.serve.meters.sources import disk_store
from apportion.serve.schemas.status import Budget, Disk, Ram


def budget_of(ledger: Ledger | None, llms: Sequence[LLM]) -> Budget:
    """The budget that loaded models share."""
    return Budget(ram=ram_of(ledger, llms), disk=disk_of(llms))


def ram_of(ledger: Ledger | None, llms: Sequence[LLM]) -> Ram:
    """Memory. Where no budget was stated nothing is leased: then weights and KV pools count as they are, and
    everything else that the process has is its runtime.
    """
    rss = rss_bytes()
    account = None if ledger is None else ledger.account().tiers[Tier.RAM]
    kinds = unplanned_kinds(llms, rss) if account is None else account.by_kind
    return Ram(
        limit_bytes=None if account is None else account.limit,
        leased_bytes=sum(kinds.values()),
        rss_bytes=rss,
        peak_rss_bytes=peak_rss_bytes(),
        kinds={str(kind): kinds.get(kind, 0) for kind in Kind},
    )


def unplanned_kinds(llms: Iterable[LLM], rss: int) -> dict[Kind, int]:
    """What models that were loaded without a budget take."""
    weights = kv = 0
    for llm in llms:
        weights += sum(tensor.nbytes for tensor in llm.loaded.checkpoint.tensors.values())
        kv += llm.engine.space.pool.num_blocks * llm.engine.space.pool.block_nbytes
    return {Kind.DENSE_WEIGHTS: weights, Kind.KV: kv, Kind.RUNTIME: max(0, rss - weights - kv)}


def disk_of(llms: Iterable[LLM]) -> Disk:
    """Room for keys and values beyond memory."""
    stores = [store for store in map(disk_store, llms) if store is not None]
    return Disk(
        limit_bytes=sum(store.config.limit_nbytes for store in stores),
        used_bytes=sum(store.used_nbytes for store in stores),
    )
