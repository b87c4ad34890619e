"""Whether the disk gets slower beside computing, as measured."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

MUCH_SLOWER = 0.8


def check(facts: Facts) -> Iterator[Finding]:
    disk = facts.profile.disk if facts.profile is not None else None
    alone = disk.best(beside=False) if disk is not None else None
    beside = disk.best(beside=True) if disk is not None else None
    if alone is None or beside is None:
        return
    share = beside.GBps.median / alone.GBps.median if alone.GBps.median else 1.0
    numbers = {"alone_GBps": alone.GBps.median, "beside_GBps": beside.GBps.median}
    what = f"{alone.GBps.median:.2f} GB/s alone, {beside.GBps.median:.2f} beside computing"
    if share >= MUCH_SLOWER:
        yield Finding(Level.OK, "disk rate", what, numbers=numbers)
        return
    why = "the kernel's part of reading needs processors, and so do we"
    advice = "more slots need fewer reads: a larger --ram; or fewer --threads"
    yield Finding(Level.NOTE, "disk rate", what, why, advice, numbers)
