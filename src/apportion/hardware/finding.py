"""What a check finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is: nothing to do; good to know; slower or riskier than it could be; a model cannot run."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is as it should be, or is not.

    Args:
        about: its subject in a word or two, for the table.
        what: the fact.
        why: what follows from it.
        advice: what to do about it; empty where nothing is to be done.
        numbers: the figures behind it.
        is_detail: shown only to those who want to know everything.
    """

    level: Level
    about: str
    what: str
    why: str = ""
    advice: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    is_detail: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The finding as one object that `json.dumps` takes as it is."""
        return {
            "level": str(self.level),
            "about": self.about,
            "what": self.what,
            "why": self.why,
            "advice": self.advice,
            "numbers": dict(self.numbers),
        }
