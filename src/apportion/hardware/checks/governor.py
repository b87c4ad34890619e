"""Whether processors run as fast as they can."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

ADAPTING = ("intel_pstate", "amd-pstate-epp")  # whose powersave follows the load


def check(facts: Facts) -> Iterator[Finding]:
    governor, driver = facts.system.governor, facts.system.frequency_driver
    if not governor:
        return
    adapts = driver in ADAPTING
    numbers = {"governor": governor, "driver": driver}
    if governor == "powersave" and not adapts:
        why = "processors stay at their lowest frequency"
        advice = "as root: cpupower frequency-set -g performance"
        yield Finding(Level.WARNING, "frequency", "the governor is powersave", why, advice, numbers)
    else:
        yield Finding(Level.OK, "frequency", f"the governor is {governor}", numbers=numbers)
