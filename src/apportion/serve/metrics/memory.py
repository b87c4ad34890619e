"""The budget: who has how much of which tier, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from apportion.core.claim import Tier
from apportion.serve.meters.sources import disk_store
from apportion.serve.metrics.metric import counter, gauge
from apportion.serve.metrics.sight import Sight
from apportion.serve.status.budget import disk_of, ledgers_of, ram_of

Labelled = Iterator[tuple[tuple[str, ...], float]]


def tier_bytes(sight: Sight) -> Labelled:
    for kind, nbytes in ram_of(sight.llms).kinds.items():
        yield (Tier.RAM, kind), nbytes
    yield (Tier.DISK, "kv"), disk_of(sight.llms).used_bytes


def budgets(sight: Sight) -> Labelled:
    ram = ram_of(sight.llms).limit_bytes
    if ram is not None:
        yield (Tier.RAM,), ram
    if any(disk_store(llm) is not None for llm in sight.llms):
        yield (Tier.DISK,), disk_of(sight.llms).limit_bytes


def peaks(sight: Sight) -> Labelled:
    accounts = [ledger.account() for ledger in ledgers_of(sight.llms)]
    if accounts:
        yield (Tier.RAM,), max(account.tiers[Tier.RAM].peak for account in accounts)


def refusals(sight: Sight) -> Labelled:
    total: Counter[tuple[str, ...]] = Counter()
    for ledger in ledgers_of(sight.llms):
        for tier, account in ledger.account().tiers.items():
            for kind, count in account.refusals.items():
                total[tier, kind] += count
    yield from total.items()


METRICS = (
    gauge(
        "apportion_tier_bytes", "What a tier's bytes are spoken for, by kind.", ("tier", "kind"), tier_bytes
    ),
    gauge("apportion_budget_bytes", "What may be had of a tier, where that is limited.", ("tier",), budgets),
    gauge("apportion_tier_peak_bytes", "The most of a tier that was spoken for at once.", ("tier",), peaks),
    counter(
        "apportion_ledger_refusals_total",
        "Claims on a tier that did not fit and were refused, by kind.",
        ("tier", "kind"),
        refusals,
    ),
)
