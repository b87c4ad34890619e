"""Whether kernels use the best instructions that there are."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    best, numbers = facts.isas[0], {"isa": facts.isa, "best": facts.isas[0]}
    if facts.isa == best:
        yield Finding(Level.OK, "instructions", f"{best}, the best that there are here", numbers=numbers)
        return
    what = f"{facts.isa} is in use, and {best} could be"
    why = f"{facts.isa_place} says so" if facts.isa_place else "the setting says so"
    yield Finding(Level.WARNING, "instructions", what, why, "take the setting isa back", numbers)
