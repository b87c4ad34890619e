"""Checks of what is slow or missing for running models inside a budget. One file in this folder is one check.

A check's file defines `check(facts) -> Iterator[Finding]`, which looks at the facts alone. It finds one thing
at least, if only that all is well; nothing, where its question does not arise.
"""

from __future__ import annotations

from types import FunctionType

from apportion.core.registry import Registry
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

CHECKS = Registry("check", __name__, "check", FunctionType)


def findings(facts: Facts) -> list[Finding]:
    """What all checks find, the worst first."""
    found: list[Finding] = [one for name in CHECKS for one in CHECKS.get(name)(facts)]
    worst_first = tuple(reversed(Level))
    return sorted(found, key=lambda finding: worst_first.index(finding.level))
