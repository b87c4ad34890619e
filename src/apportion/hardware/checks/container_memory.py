"""Whether the container has less memory than the machine."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import format_bytes
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    memory, groups = facts.system.memory, facts.system.groups
    if memory.container is None or (memory.total and memory.container >= memory.total):
        yield Finding(Level.OK, "container", "no limit of memory below the machine's")
        return
    numbers = {"limit": memory.container, "free": memory.container_free, "machine": memory.total}
    tightest = min(groups, key=lambda group: group.limit)
    what = f"limited to {format_bytes(memory.container)} of {format_bytes(memory.total)}"
    why = "a process that takes more is killed, whatever the machine has free"
    if len(groups) > 1:
        why += f"; {len(groups)} groups around us have limits, the tightest is {tightest.folder.name}"
    advice = f"give --ram at most {format_bytes(memory.free)}, or --ram auto"
    yield Finding(Level.NOTE, "container", what, why, advice, numbers)
