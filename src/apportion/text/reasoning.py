"""Where a model's reasoning stands in its answer: between marks that its chat template knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """What stands before and behind the reasoning."""

    begin: str
    end: str

    def is_open_in(self, prompt: str) -> bool:
        """Whether the prompt ends within the reasoning, so that the answer begins with it."""
        return prompt.rstrip().endswith(self.begin)

    def is_closed_in(self, prompt: str) -> bool:
        """Whether the prompt ends behind reasoning, so that the answer goes without."""
        return prompt.rstrip().endswith(self.end)


MARKS = (
    ReasoningMarks("<think>", "</think>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
    ReasoningMarks("<reasoning>", "</reasoning>"),
)


def reasoning_marks(template: str) -> ReasoningMarks | None:
    """The marks of the model whose chat template has this source; None where it knows of no reasoning."""
    return next((marks for marks in MARKS if marks.end in template), None)
