"""Whether weights take more room in memory than in the file."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    for note in facts.model.kept_as if facts.model is not None else ():
        why = "there are no kernels for the format as it is stored"
        advice = "obtain the model in another format, such as q4_k or q8_0"
        yield Finding(Level.NOTE, "formats", note, why, advice)
