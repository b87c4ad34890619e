"""Whether the model's weights can come and go."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    if not model.why_not:
        yield Finding(Level.OK, "streaming", "all weights can come and go")
    for why in model.why_not:
        what = "some weights have to stay in memory, or be packed first"
        yield Finding(Level.WARNING, "streaming", what, why, "run: apportion pack MODEL OUT.gguf")
