"""The budget: who has how much of which tier, and what was refused."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.claim import Tier
from apportion.serve.meters.sources import disk_store
from apportion.serve.metrics.metric import counter, gauge
from apportion.serve.metrics.sight import Sight
from apportion.serve.status.budget import disk_of, ram_of

Labelled = Iterator[tuple[tuple[str, ...], float]]


def tier_bytes(sight: Sight) -> Labelled:
    for kind, nbytes in ram_of(sight.site.models.ledger, sight.llms).kinds.items():
        yield (Tier.RAM, kind), nbytes
    yield (Tier.DISK, "kv"), disk_of(sight.llms).used_bytes


def budgets(sight: Sight) -> Labelled:
    ram = ram_of(sight.site.models.ledger, sight.llms).limit_bytes
    if ram is not None:
        yield (Tier.RAM,), ram
    if any(disk_store(llm) is not None for llm in sight.llms):
        yield (Tier.DISK,), disk_of(sight.llms).limit_bytes


def peaks(sight: Sight) -> Labelled:
    if (ledger := sight.site.models.ledger) is not None:
        yield (Tier.RAM,), ledger.account().tiers[Tier.RAM].peak


def refusals(sight: Sight) -> Labelled:
    if (ledger := sight.site.models.ledger) is not None:
        for tier, account in ledger.account().tiers.items():
            for kind, count in account.refusals.items():
                yield (tier, kind), count


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
