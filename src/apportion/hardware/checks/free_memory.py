"""Whether the model fits into the memory that can be had."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import format_bytes
from apportion.hardware.facts import Facts, ModelFacts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    memory, model = facts.system.memory, facts.model
    numbers = {"free": memory.free, "limit": memory.limit}
    if model is None:
        yield Finding(Level.OK, "memory", f"{format_bytes(memory.free)} free for us", numbers=numbers)
        return
    least, numbers = model.smallest_budget, {**numbers, "smallest_budget": model.smallest_budget}
    if least > memory.limit > 0:
        what = (
            f"{model.name} needs {format_bytes(least)}, and {format_bytes(memory.limit)} can be had at most"
        )
        yield Finding(Level.PROBLEM, "memory", what, "it cannot run here", _smaller(model), numbers)
    elif least > memory.free:
        what = f"{model.name} needs {format_bytes(least)}, and {format_bytes(memory.free)} are free now"
        why = "the system would be short of memory"
        yield Finding(Level.WARNING, "memory", what, why, "end other programs first", numbers)
    else:
        what = f"{format_bytes(memory.free)} free for us; {format_bytes(least)} is the least that does"
        yield Finding(Level.OK, "memory", what, numbers=numbers)


def _smaller(model: ModelFacts) -> str:
    if model.why_not:
        return "pack it, so that its weights can come and go: apportion pack"
    return "choose a smaller model, or one stored in fewer bits"
