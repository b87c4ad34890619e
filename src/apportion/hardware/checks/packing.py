"""Whether the model lies as it is used, where it has to come and go."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import format_bytes
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    model, free = facts.model, facts.system.memory.free
    if model is None:
        return
    numbers = {"nbytes": model.nbytes, "free": free}
    if model.packed:
        yield Finding(
            Level.OK, "packing", "the model is packed: a missing expert is one read", numbers=numbers
        )
    elif model.nbytes < free:
        what = f"not packed, and small enough to stay in memory whole ({format_bytes(model.nbytes)})"
        yield Finding(Level.OK, "packing", what, numbers=numbers)
    else:
        what = (
            f"not packed, and larger ({format_bytes(model.nbytes)}) than what is free ({format_bytes(free)})"
        )
        why = (
            "an expert takes several reads"
            if model.has_experts
            else "matrices are rearranged after each read"
        )
        yield Finding(Level.WARNING, "packing", what, why, "run: apportion pack MODEL OUT.gguf", numbers)
