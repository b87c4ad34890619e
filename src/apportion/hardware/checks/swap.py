"""Whether memory within the budget may be swapped out."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import MiB, format_bytes
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

BUSY_NBYTES = 256 * MiB  # in swap: the machine has been short of memory


def check(facts: Facts) -> Iterator[Finding]:
    system = facts.system
    if not system.swap_nbytes:
        yield Finding(Level.OK, "swap", "off: what is in memory stays there")
        return
    numbers = {"total": system.swap_nbytes, "used": system.swap_used, "swappiness": system.swappiness}
    what = f"on: {format_bytes(system.swap_nbytes)}, {format_bytes(system.swap_used)} used"
    if system.swappiness is not None:
        what += f", swappiness {system.swappiness}"
    why = "weights within a budget may be swapped out for other programs, and come back page by page"
    level = Level.WARNING if system.swap_used > BUSY_NBYTES else Level.NOTE
    yield Finding(level, "swap", what, why, "lower the budget, or as root: sysctl vm.swappiness=1", numbers)
