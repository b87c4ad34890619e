"""Whether weights lie in huge pages."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    mode = facts.system.huge_pages
    if mode == "never":
        why = "reads into small pages and walks over weights cost the processor more"
        advice = "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        yield Finding(Level.WARNING, "huge pages", "the system gives none", why, advice)
    elif mode:
        yield Finding(Level.OK, "huge pages", f"given where asked for ({mode})")
