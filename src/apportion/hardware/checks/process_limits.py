"""Whether the process may have as much memory as there is (ulimit -v, ulimit -d)."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import format_bytes
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    system, model = facts.system, facts.model
    for limit, name, flag in ((system.address_space, "address space", "-v"), (system.data, "data", "-d")):
        if limit is None or (system.memory.total and limit >= 2 * system.memory.total):
            continue
        numbers = {"limit": limit, "total": system.memory.total}
        too_low = model is not None and model.smallest_budget > limit
        what = f"the process is limited to {format_bytes(limit)} of {name}"
        why = "memory beyond it is refused, and what is only reserved counts as well"
        level = Level.PROBLEM if too_low else Level.WARNING
        yield Finding(level, "process limits", what, why, f"run: ulimit {flag} unlimited", numbers)
