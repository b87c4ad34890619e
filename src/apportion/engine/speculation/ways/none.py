"""No guesses: one token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apportion.engine.speculation.ways import Way

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel


class NoGuesses(Way):
    sentence = "Computes one token at a time."

    def open(self, argument: str, target: LoadedModel, ctx: int, concurrency: int) -> NoGuesses:
        return self

    def drafter(self) -> None:
        return None

    def close(self) -> None:
        return None


WAY = NoGuesses()
