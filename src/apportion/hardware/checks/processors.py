"""Whether we may use all processors that there are, all the time."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    system = facts.system
    numbers = {"processors": system.processors, "allowed": system.allowed, "quota": system.quota}
    all_well = True
    if system.allowed < system.processors:
        all_well = False
        what = f"we may use {system.allowed} of {system.processors} processors"
        why = "the affinity of this process or its container's set of processors (cpuset) says so"
        advice = "start it without taskset, or give the container more processors"
        yield Finding(Level.NOTE, "processors", what, why, advice, numbers)
    if system.quota is not None and system.quota < system.allowed:
        all_well = False
        what = f"the container grants the time of {system.quota:g} processors, and {system.allowed} compute"
        why = "all threads are stopped when the time of a period is used up"
        advice = f"run with --threads {max(1, int(system.quota))}, or raise the container's quota"
        yield Finding(Level.WARNING, "processors", what, why, advice, numbers)
    if all_well:
        yield Finding(Level.OK, "processors", f"all {system.processors} can be used", numbers=numbers)
