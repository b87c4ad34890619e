"""What the system reads ahead of programs that read through the page cache."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.core.units import format_bytes
from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level


def check(facts: Facts) -> Iterator[Finding]:
    ahead = facts.model.file_system.read_ahead_nbytes if facts.model is not None else None
    if ahead is not None:
        what, why = (
            f"{format_bytes(ahead)} of the device",
            "we read past the page cache: it changes nothing for us",
        )
        yield Finding(Level.NOTE, "read-ahead", what, why, numbers={"read_ahead": ahead}, is_detail=True)
